"""Seeds until decided: the error rates, the power and the seeds of group-sequential tests, on simulated accuracies.

python -m ablation.studies.seeds_saved [--tables 1000]
"""

import sys
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import typer
from tabulate import tabulate

from ablation.analysis.decisions import Decision, decide, undecided_rows
from ablation.analysis.power import seeds_needed
from ablation.analysis.sequential import SequentialDesign
from ablation.analysis.statistics import Comparison
from benchmarks.cli.app import new_app, run_app

SPREAD = 0.25  # points; the standard deviation of CIFAR-100's top-1 over seeds
MARGIN = 0.3  # points

app = new_app("Measure the error rates and the seeds of --until-decided, on simulated accuracies.")


@dataclass(frozen=True)
class Study:
    """The true effects behind simulated tables.

    Attributes:
        effects: Points that each step adds.
        max_seeds: The seeds of a row that is not decided earlier.
        margin: Changes that are shown to be smaller than this, in points, are equivalent; None: no such test.
    """

    effects: tuple[float, ...]
    max_seeds: int = 12
    margin: float | None = None

    @property
    def design(self) -> SequentialDesign:
        """The looks and the tests."""
        return SequentialDesign(self.max_seeds, len(self.effects), margin=self.margin)


def simulate(study: Study, draw: np.random.Generator) -> tuple[list[Decision | None], list[int]]:
    """Run one table until it is decided, and return the decision on each row and its seeds."""
    means = 80 + np.cumsum([0.0, *study.effects])
    accuracies = draw.normal(means[:, None], SPREAD, (len(means), study.max_seeds))
    against = [((row - 1, -1),) if row else () for row in range(len(means))]
    seeds, decisions, active = [0] * len(means), list[Decision | None](), set(range(len(means)))
    for look in study.design.looks:
        seeds = [look if row in active else count for row, count in enumerate(seeds)]
        known = [dict(enumerate(accuracies[row, :count].tolist())) for row, count in enumerate(seeds)]
        steps: list[Comparison] = [(known[row], [(known[row - 1], -1)]) for row in range(1, len(means))]
        decisions = decide([None, *steps], study.design, look)
        active = undecided_rows(against, decisions)
    return decisions, seeds


def evaluate(study: Study, tables: int) -> dict[str, object]:
    """Simulate tables, and return one row of results.

    It contains the effects, the percentage of tables with any false verdict, the percentages of steps with an effect
    that are shown and of equivalent steps, the mean seeds of a row, and the fixed number of seeds of the same power.
    """
    draw, num_steps = np.random.default_rng(0), len(study.effects)
    num_false, num_false_equivalent, num_shown, num_equivalent, num_seeds = 0, 0, 0, 0, 0
    for _ in range(tables):
        decisions, seeds = simulate(study, draw)
        verdicts = ["" if decision is None else decision.verdict for decision in decisions[1:]]
        pairs = list(zip(verdicts, study.effects, strict=True))
        num_false += any(_is_false(verdict, effect) for verdict, effect in pairs)
        equivalent = [effect for verdict, effect in pairs if "equivalent" in verdict]
        num_false_equivalent += any(abs(effect) >= MARGIN for effect in equivalent)
        num_shown += sum(effect != 0 and not _is_false(v, effect) and v.startswith("real") for v, effect in pairs)
        num_equivalent += len(equivalent)
        num_seeds += sum(seeds)
    num_effects, largest = sum(effect != 0 for effect in study.effects), max(study.effects)
    power = num_shown / (tables * num_effects) if num_effects else None
    fixed = None if power is None else seeds_needed(largest, SPREAD, power, num_steps)
    return {
        "effects": " ".join(f"{effect:g}" for effect in study.effects),
        "margin": study.margin,
        "max seeds": study.max_seeds,
        "tables with a false verdict %": 100 * num_false / tables,
        "tables with a false equivalent %": 100 * num_false_equivalent / tables,
        "effects shown %": None if power is None else 100 * power,
        "equivalent %": 100 * num_equivalent / (tables * num_steps),
        "seeds per row": num_seeds / (tables * (num_steps + 1)),
        "fixed seeds of equal power": fixed,
    }


def _is_false(verdict: str, effect: float) -> bool:
    """Return whether a verdict claims a change that does not exist, or one in the wrong direction."""
    return (verdict.startswith("real") and effect <= 0) or (verdict.startswith("worse") and effect >= 0)


@app.command()
def measure(tables: Annotated[int, typer.Option(min=1, help="Tables per line.")] = 1000) -> int:
    """Print the results as a Markdown table."""
    studies = [
        Study((0.0,)),
        Study((0.3,)),
        Study((0.5,)),
        Study((0.0,) * 7),
        Study((0.5, 0.0) * 3 + (0.5,)),
        Study((0.3,) * 7, max_seeds=24),
        Study((MARGIN,), margin=MARGIN),
        Study((0.0,), max_seeds=24, margin=MARGIN),
        Study((MARGIN,) * 7, margin=MARGIN),
    ]
    lines = []
    for study in studies:
        lines.append(evaluate(study, tables))
        print(f"{len(lines)} of {len(studies)} lines", file=sys.stderr)
    print(f"Standard deviation over seeds {SPREAD} points, normal distribution.\n")
    print(tabulate(lines, headers="keys", tablefmt="github", floatfmt=".3g", missingval=""))
    return 0


if __name__ == "__main__":
    raise SystemExit(run_app(app, "seeds_saved", None))
