"""Intervals of changes over seeds and test images together.

The interval of a table is over seeds: it describes other runs, evaluated on the same test images. This one describes
other runs and other test images from the same distribution. Each run is evaluated on each image, so that both factors
are crossed.
"""

from collections.abc import Mapping, Sequence
from math import nan, sqrt
from typing import NamedTuple

import numpy as np

from ablation.analysis.errors import load_predictions, recorded_labels
from ablation.analysis.records import RecordedPlan
from ablation.analysis.statistics import (
    ALPHA,
    MIN_BOOTSTRAP_VALUES,
    NUM_RESAMPLES,
    Values,
    comparison_samples,
    estimate_change,
)
from ablation.plans.choices import Pairing
from arch.text import printable, shorten

Correct = Mapping[int, Values]  # by seed: 100 for each test image that the run classified correctly, otherwise 0


class ImageInterval(NamedTuple):
    """A change in points and its 95% CI over seeds and test images; NaN where it cannot be computed."""

    points: float = nan
    low: float = nan
    high: float = nan


def correct_images(recorded: RecordedPlan) -> list[Correct]:
    """Return for each row and seed which test images were classified correctly; runs without predictions are left out.

    The predictions are read from the files of the runs.
    """
    labels = recorded_labels(recorded)
    if labels is None:
        return [{} for _ in recorded.rows]
    by_row: list[Correct] = []
    for row in recorded.rows:
        loaded = {
            run.seed: load_predictions(run, labels, recorded.run_file("predictions", run)) for run in recorded.runs(row)
        }
        by_row.append({seed: 100.0 * (classes == labels) for seed, classes in loaded.items() if classes is not None})
    return by_row


def missing_predictions_note(recorded: RecordedPlan, correct: Sequence[Correct]) -> list[str]:
    """Return a note on runs whose predictions are missing or damaged, if other runs have predictions."""
    counts = [(row, len(images), len(recorded.runs(row))) for row, images in zip(recorded.rows, correct, strict=True)]
    missing = [f"{shorten(row.label)} ({known} of {n} runs)" for row, known, n in counts if known < n]
    if not missing or not any(correct):
        return []
    return [printable(f"Not all runs have predictions for the intervals over test images: {', '.join(missing)}.")]


def image_interval(correct: Correct, references: Sequence[tuple[Correct, int]], pairing: Pairing) -> ImageInterval:
    """Estimate a change and its interval by a two-way bootstrap: seeds and images are resampled independently.

    A plain two-way bootstrap counts the variance of single predictions, which is neither due to the seed nor to the
    image, in both factors, and its intervals are far too wide (McCullagh 2000, Resampling and exchangeable arrays,
    Bernoulli 6). Therefore the differences of the images are first shrunk to the variance of the images alone, which
    is estimated as in an analysis of variance. The interval is corrected for the small number of seeds as in
    `ablation.analysis.statistics`, and contains the interval over the seeds.

    Args:
        correct: See `Correct`.
        references: The same for each reference row, and its weight: see `estimate_change`.
        pairing: Whether the differences are taken within each seed.
    """
    samples = comparison_samples(correct, references, pairing)
    if min(map(len, samples)) < 2 or samples[0].shape[1] < 2:
        return ImageInterval()
    draw = np.random.default_rng(0)  # the same records give the same interval
    first, *others = samples
    points = first.mean() - sum(other.mean() for other in others)
    accuracies = [sample.mean(1) for sample in samples]
    of_images = _image_variance(samples)
    deviations = _resample_seeds(accuracies, draw) + _resample_images(samples, of_images, draw)
    low, high = np.quantile(deviations, [ALPHA / 2, 1 - ALPHA / 2]) * _correction(accuracies, of_images, first.shape[1])
    over_seeds = estimate_change(_accuracies(correct), [(_accuracies(other), w) for other, w in references], pairing)
    low, high = np.fmin(points + low, over_seeds.low), np.fmax(points + high, over_seeds.high)  # ignore NaN
    return ImageInterval(float(points), float(low), float(high))


def _accuracies(correct: Correct) -> dict[int, float]:
    return {seed: float(images.mean()) for seed, images in correct.items()}


def _image_variance(samples: Sequence[Values]) -> float:
    """Return the variance of the change that is due to the choice of the images; see `image_interval`."""
    first, *others = (sample.mean(0) for sample in samples)
    of_predictions = sum(sample.var(0, ddof=1).mean() / len(sample) for sample in samples)
    return float(max(0.0, (first - sum(others)).var(ddof=1) - of_predictions) / len(first))


def _correction(accuracies: Sequence[Values], of_images: float, num_images: int) -> float:
    """Return the ratio of Student's quantile to the normal one, with Satterthwaite's degrees of freedom."""
    from scipy import stats

    parts = [(float(sample.var(ddof=1)) / len(sample), len(sample) - 1) for sample in accuracies]
    parts.append((of_images, num_images - 1))
    total = sum(variance for variance, _ in parts)
    if total == 0:
        return 1.0
    freedom = total**2 / sum(variance**2 / degrees for variance, degrees in parts)
    return float(stats.t.isf(ALPHA / 2, freedom) / stats.norm.isf(ALPHA / 2))


def _resample_seeds(accuracies: Sequence[Values], draw: np.random.Generator) -> Values:
    """Return resampled deviations of the change: normal ones if there are too few seeds to resample.

    Args:
        accuracies: The accuracy of each seed: one sample of differences, or two samples to compare.
        draw: The source of random numbers.
    """
    if sum(map(len, accuracies)) < MIN_BOOTSTRAP_VALUES:
        variance = sum(float(sample.var(ddof=1)) / len(sample) for sample in accuracies)
        return draw.normal(0, sqrt(variance), NUM_RESAMPLES)
    total = np.zeros(NUM_RESAMPLES)
    for sign, sample in zip((1, -1), accuracies, strict=False):
        n = len(sample)
        means = sample[draw.integers(n, size=(NUM_RESAMPLES, n))].mean(1)
        total += sign * (means - sample.mean()) * sqrt(n / (n - 1))
    return total


def _resample_images(samples: Sequence[Values], of_images: float, draw: np.random.Generator) -> Values:
    """Return resampled deviations of the change that are due to the choice of the images.

    Args:
        samples: One value per seed and image, of shape (seeds, images): one sample of differences, or two to compare.
        of_images: The variance of the deviations.
        draw: The source of random numbers.
    """
    if of_images == 0:
        return np.zeros(NUM_RESAMPLES)
    first, *others = (sample.mean(0) for sample in samples)
    differences = first - sum(others)
    num_images = len(differences)
    values, counts = np.unique(differences.round(6), return_counts=True)  # few values, so that resampling is fast
    means = draw.multinomial(num_images, counts / num_images, NUM_RESAMPLES) @ values / num_images
    deviations: Values = (means - differences.mean()) * sqrt(of_images * num_images / differences.var())
    return deviations
