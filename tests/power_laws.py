"""Errors that follow a power law, for tests of what is derived from its fit."""

from math import sqrt

THREE_SEEDS = (-0.2, 0.0, 0.2)  # deviations of the accuracies of three seeds, in points


def error_at(images: float) -> float:
    """Return 70% at 1,000 images, 45%, 32.5% and 26.25% at 4, 16 and 64 times as many; 20% are never reached."""
    return 50 / sqrt(images / 1_000) + 20
