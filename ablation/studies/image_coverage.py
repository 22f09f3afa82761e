"""Coverage of the intervals over seeds and test images, on simulated predictions with a known change.

python -m ablation.studies.image_coverage [--tables 1000]
"""

import sys
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import typer
from scipy.special import expit
from tabulate import tabulate

from ablation.analysis.image_interval import image_interval
from ablation.analysis.statistics import Values, estimate_change
from benchmarks.cli.app import new_app, run_app

MEAN_LOGIT, LOGIT_SPREAD = 3.0, 4.0  # of the images: about 76% accuracy, and seeds that disagree as those of real runs
SEED_SPREAD = 0.03  # in logits: 0.1 points or more
CHANGE = 0.15  # in logits
NUM_POPULATION_IMAGES = 1_000_000  # to compute the true change

app = new_app("Measure the coverage of the intervals over seeds and test images, on simulated predictions.")


@dataclass(frozen=True)
class ImageScenario:
    """The true model behind simulated predictions.

    A run classifies an image correctly with the probability expit(easiness of the image + change of the row for this
    image + effect of the seed).

    Attributes:
        num_images: Test images.
        seeds: Seeds per row.
        image_spread: Standard deviation over the images of the change in logits.
    """

    num_images: int
    seeds: int
    image_spread: float


def draw_runs(scenario: ImageScenario, draw: np.random.Generator) -> tuple[Values, Values]:
    """Return which images the runs of two rows classify correctly: zeros and ones with shape (seeds, num_images)."""
    easiness, changes = _draw_images(scenario, scenario.num_images, draw)

    def draw_row(logits: Values) -> Values:
        of_seed = draw.normal(0, SEED_SPREAD, (scenario.seeds, 1))
        return np.array(draw.random((scenario.seeds, scenario.num_images)) < expit(logits + of_seed), float)

    return draw_row(easiness + changes), draw_row(easiness)


def true_change(scenario: ImageScenario) -> float:
    """Return the change of the accuracy over all possible images and seeds, in points."""
    draw = np.random.default_rng(1)
    easiness, changes = _draw_images(scenario, NUM_POPULATION_IMAGES, draw)
    of_seed = draw.normal(0, SEED_SPREAD, NUM_POPULATION_IMAGES)
    return 100 * float((expit(easiness + changes + of_seed) - expit(easiness + of_seed)).mean())


def _draw_images(scenario: ImageScenario, count: int, draw: np.random.Generator) -> tuple[Values, Values]:
    return draw.normal(MEAN_LOGIT, LOGIT_SPREAD, count), draw.normal(CHANGE, scenario.image_spread, count)


def evaluate(scenario: ImageScenario, tables: int) -> dict[str, float]:
    """Simulate tables, and return one row of results.

    It contains the scenario, the mean variance over the seeds of single predictions, the standard deviation of the
    accuracy over the seeds in points, the coverage and the mean width of the intervals, and the coverage of the
    intervals over the seeds alone, which are not made to cover the change on other images.
    """
    draw, change = np.random.default_rng(0), true_change(scenario)
    num_covered, num_covered_by_seeds, widths, variances, spreads = 0, 0, [], [], []
    for _ in range(tables):
        first, second = draw_runs(scenario, draw)
        rows = [dict(enumerate(100 * row)) for row in (first, second)]
        interval = image_interval(rows[0], [(rows[1], -1)], "unpaired")
        num_covered += interval.low <= change <= interval.high
        accuracies = [{seed: float(images.mean()) for seed, images in row.items()} for row in rows]
        over_seeds = estimate_change(accuracies[0], [(accuracies[1], -1)], "unpaired")
        num_covered_by_seeds += over_seeds.low <= change <= over_seeds.high
        widths.append(interval.high - interval.low)
        variances.append(first.var(0, ddof=1).mean())
        spreads.append(100 * first.mean(1).std(ddof=1))
    return {
        "test images": scenario.num_images,
        "seeds": scenario.seeds,
        "spread over images (logits)": scenario.image_spread,
        "true change": change,
        "variance of predictions": float(np.mean(variances)),
        "std over seeds": float(np.mean(spreads)),
        "coverage %": 100 * num_covered / tables,
        "width": float(np.mean(widths)),
        "coverage over seeds alone %": 100 * num_covered_by_seeds / tables,
    }


@app.command()
def measure(tables: Annotated[int, typer.Option(min=1, help="Tables per line.")] = 1000) -> int:
    """Print the results as a Markdown table."""
    scenarios = [
        ImageScenario(num_images, seeds, image_spread)
        for num_images in (500, 10_000)
        for seeds in (3, 6, 12)
        for image_spread in (0.0, 0.7, 2.0)
    ]
    lines = []
    for scenario in scenarios:
        lines.append(evaluate(scenario, tables))
        print(f"{len(lines)} of {len(scenarios)} lines", file=sys.stderr)
    print(tabulate(lines, headers="keys", tablefmt="github", floatfmt=".3g"))
    return 0


if __name__ == "__main__":
    raise SystemExit(run_app(app, "image_coverage", None))
