"""`ablate list`: bases, parts, plans, benchmarks, assignments and preregistrations."""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from arch.errors import InputError
from arch.text import printable
from benchmarks.cli.app import new_console
from benchmarks.cli.options import DEFAULT_OUT, NO_PATHS, JsonOption, PluginsOption
from benchmarks.definition.names import check_path

JSON_ONLY = {"cost", "evidence", "marks", "sha256"}  # too long for a table


class Listing(StrEnum):
    """What `ablate list` can list."""

    parts = "parts"
    bases = "bases"
    networks = "networks"
    plans = "plans"
    benchmarks = "benchmarks"
    assignments = "assignments"
    preregistrations = "preregistrations"


def list_names(
    kind: Annotated[Listing, typer.Argument()],
    plugins: PluginsOption = NO_PATHS,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            metavar="DIR",
            help="Folder with preregistrations.",
            callback=lambda path: check_path("--out", path),
        ),
    ] = DEFAULT_OUT,
    as_json: JsonOption = False,
) -> int:
    """List parts, bases, networks (of plugins), plans, benchmarks or assignments, or the preregistrations in --out."""
    from arch.plugins import load_plugins

    load_plugins(plugins)
    listings: dict[Listing, Callable[[], list[dict[str, Any]]]] = {
        Listing.parts: _parts,
        Listing.bases: _bases,
        Listing.networks: _networks,
        Listing.plans: _plans,
        Listing.benchmarks: _benchmarks,
        Listing.assignments: _assignments,
        Listing.preregistrations: lambda: _preregistrations(out),
    }
    entries = listings[kind]()
    if not entries and kind == Listing.preregistrations:
        raise InputError(f"there are no preregistrations in {out}: `ablate preregister` writes one")
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
        table.add_column(column, overflow="fold")
    for entry in entries:
        table.add_row(*(escape(printable(str(entry[column]))) for column in columns))
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


def _assignments() -> list[dict[str, Any]]:
    """Return one entry for each assignment and scale."""
    from ablation.plans.assignments import all_studies

    return [
        {
            "assignment": study.name,
            "scale": study.scale,
            "title": study.assignment.title,
            "plan": study.definition.plan,
            "benchmark": study.benchmark.name,
            "seeds": study.definition.seeds,
            "cost": study.definition.cost,
            "marks": [asdict(mark) for mark in study.definition.marks],
        }
        for study in all_studies()
    ]


def _preregistrations(out: Path) -> list[dict[str, Any]]:
    """Return the valid preregistrations, and print a warning for each invalid file."""
    from ablation.plans.preregistration_files import preregistration_file, read_preregistrations

    stored, problems = read_preregistrations([out])
    for problem in problems:
        print(f"warning: {printable(problem)}", file=sys.stderr)
    return [
        {
            "preregistered": entry.date,
            "plan": entry.plan,
            "seeds": f"up to {entry.seeds}, until decided" if entry.test.until_decided else str(entry.seeds),
            "test": entry.test.pairing,
            "margin": "" if entry.test.equivalence is None else f"{entry.test.equivalence:g} points",
            "benchmark": f"{entry.benchmark.name} {entry.benchmark.id}",
            "file": preregistration_file(out, entry).name,
            "sha256": entry.sha256,
        }
        for entry in stored
    ]
