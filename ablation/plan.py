"""From a spec to the rows of an ablation table. Knows no torch."""

from dataclasses import dataclass

from arch.errors import InputError
from arch.spec import Spec, parse
from arch.variant import Variant
from benchmarks.benchmark import Benchmark


@dataclass(frozen=True)
class Row:
    """One row: what it is called in the table, its whole spec, and its architecture."""

    label: str
    spec: str
    variant: Variant


def path(text: str, benchmark: Benchmark) -> list[Row]:
    """The sequential ablation that a spec describes: its first row, then one more for each step.

    Raises InputError for a spec that cannot be read, or a step that changes nothing.
    """
    specs = parse(text, benchmark.baseline).path()
    rows = [Row(_first_label(specs[0], benchmark), str(specs[0]), specs[0].variant())]
    for spec in specs[1:]:
        step, variant = str(spec.steps[-1]), spec.variant()
        if variant == rows[-1].variant:
            raise InputError(f"{step!r} changes nothing: {rows[-1].spec} is so already")
        rows.append(Row(step, str(spec), variant))
    return rows


def _first_label(spec: Spec, benchmark: Benchmark) -> str:
    is_baseline = spec.variant() == parse(benchmark.baseline).variant()
    return f"baseline ({spec})" if is_baseline else str(spec)
