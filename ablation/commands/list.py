"""`ablate list`."""

import json
from enum import StrEnum
from typing import Annotated, Any

import typer

from arch.bases import BASES
from arch.parts import PARTS
from arch.plans import PLANS
from benchmarks.cli.options import JsonOption, new_console
from benchmarks.definition.benchmark import BENCHMARKS


class Listing(StrEnum):
    """What `ablate list` can list."""

    parts = "parts"
    bases = "bases"
    plans = "plans"
    benchmarks = "benchmarks"


def list_names(what: Annotated[Listing, typer.Argument()], as_json: JsonOption = False) -> int:
    """List the parts, bases, plans or benchmarks there are."""
    entries = {"parts": _parts, "bases": _bases, "plans": _plans, "benchmarks": _benchmarks}[what]()
    if as_json:
        print(json.dumps(entries, indent=2))
        return 0
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, header_style="bold")
    for column in entries[0]:
        table.add_column(column)
    for entry in entries:
        table.add_row(*(escape(str(value)) for value in entry.values()))
    new_console().print(table)
    return 0


def _parts() -> list[dict[str, Any]]:
    return [
        {
            "part": part.name,
            "value": str(part.value or ""),
            "default": _default(part.value),
            "what": part.summary,
            "paper": part.paper,
        }
        for _, part in sorted(PARTS.items())
    ]


def _default(value: Any) -> str:
    return "" if value is None else str(value.default)


def _bases() -> list[dict[str, Any]]:
    return [{"base": name, "timm name": f"cifar_{name}", "paper": base.paper} for name, base in BASES.items()]


def _plans() -> list[dict[str, Any]]:
    return [{"plan": name, "spec": plan.spec, "what": plan.aim} for name, plan in PLANS.items()]


def _benchmarks() -> list[dict[str, Any]]:
    return [
        {
            "benchmark": b.name,
            "baseline": b.baseline,
            "epochs": b.recipe.epochs,
            "max params": f"{b.budget.max_params:,}",
            "max hours": b.budget.max_hours,
        }
        for b in BENCHMARKS.values()
    ]
