"""`ablate list`: bases, parts, plans and benchmarks."""

import json
from enum import StrEnum
from typing import Annotated, Any

import typer

from arch.errors import InputError
from benchmarks.cli.app import new_console
from benchmarks.cli.options import NO_PATHS, JsonOption, PluginsOption

JSON_ONLY = {"evidence"}  # paragraphs, too long for a table


class Listing(StrEnum):
    """What `ablate list` can list."""

    parts = "parts"
    bases = "bases"
    networks = "networks"
    plans = "plans"
    benchmarks = "benchmarks"


def list_names(
    kind: Annotated[Listing, typer.Argument()],
    plugins: PluginsOption = NO_PATHS,
    as_json: JsonOption = False,
) -> int:
    """List the available parts, bases, networks (of plugins), plans or benchmarks."""
    from arch.plugins import load_plugins

    load_plugins(plugins)
    listings = {
        "parts": _parts,
        "bases": _bases,
        "networks": _networks,
        "plans": _plans,
        "benchmarks": _benchmarks,
    }
    entries = listings[kind]()
    if not entries:
        raise InputError(f"there are no {kind}: load a plugin that registers some with --plugin FILE.py")
    if as_json:
        print(json.dumps(entries, indent=2))
        return 0
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, header_style="bold")
    columns = [column for column in entries[0] if column not in JSON_ONLY]
    for column in columns:
        table.add_column(column)
    for entry in entries:
        table.add_row(*(escape(str(entry[column])) for column in columns))
    new_console().print(table)
    return 0


def _parts() -> list[dict[str, Any]]:
    from arch.parts import PARTS

    return [
        {
            "part": part.name,
            "value": str(part.value or ""),
            "default": "" if part.value is None else str(part.value.default),
            "description": part.summary,
            "reference": part.paper,
        }
        for _, part in sorted(PARTS.items())
    ]


def _bases() -> list[dict[str, Any]]:
    from arch.bases import BASES

    return [{"base": name, "timm name": f"cifar_{name}", "reference": base.paper} for name, base in BASES.items()]


def _networks() -> list[dict[str, Any]]:
    from arch.entries import NETWORKS

    return [
        {
            "network": name,
            "parameters": ", ".join(network.parameters),
            "plugin": network.plugin.name,
            "reference": network.paper,
        }
        for name, network in NETWORKS.items()
    ]


def _plans() -> list[dict[str, Any]]:
    from arch.plans import PLANS

    return [
        {
            "plan": name,
            "spec": plan.spec,
            "description": plan.aim,
            "expected top-1": str(plan.expected),
            "evidence": plan.evidence,
        }
        for name, plan in PLANS.items()
    ]


def _benchmarks() -> list[dict[str, Any]]:
    from benchmarks.definition.registry import BENCHMARKS

    return [
        {
            "benchmark": benchmark.name,
            "baseline": benchmark.baseline,
            "epochs": benchmark.recipe.epochs,
            "max params": f"{benchmark.budget.max_params:,}",
            "max hours": benchmark.budget.max_hours,
            "device of the hours": benchmark.budget.device or "at hand",
        }
        for benchmark in BENCHMARKS.values()
    ]
