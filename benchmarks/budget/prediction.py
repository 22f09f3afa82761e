"""Predict the training hours on another device from its profile."""

from dataclasses import replace

import torch

from benchmarks.budget.builders import Builder
from benchmarks.budget.cost import countable_attention
from benchmarks.budget.error_line import error_line
from benchmarks.budget.hours import add_hours
from benchmarks.budget.operators import evaluation_work, training_work
from benchmarks.budget.profile import DeviceProfile
from benchmarks.budget.roofline import loads_of, predict
from benchmarks.budget.verdict import PredictedHours, Verdict
from benchmarks.definition.benchmark import Benchmark
from benchmarks.training.evaluation import EVAL_BATCH


def add_prediction(
    verdict: Verdict, builder: Builder, benchmark: Benchmark, profile: DeviceProfile, image_counts: tuple[int, int]
) -> Verdict:
    """Add the hours on the device of a profile to a verdict.

    Args:
        verdict: The verdict on the cost.
        builder: Builds the model, on the meta device.
        benchmark: Its recipe determines the hours, its budget limits them.
        profile: Profile of the device.
        image_counts: Numbers of training and evaluation images.
    """
    try:
        hours = _predict_hours(builder, benchmark, profile, image_counts)
    except Exception as error:
        return replace(verdict, unjudged=f"the operators of the model cannot be listed: {error_line(error)}")
    source = f"hours are predicted from the profile of {profile.device} in {profile.precision}"
    note = f"{source}, fitted to {profile.nets} models; {profile.accuracy()}"
    if profile.derived:
        note = f"{source}: {profile.derived}"
    device = f"{profile.device} ({profile.derived})" if profile.derived else profile.device
    verdict = replace(verdict, device=device, notes=(*verdict.notes, note))
    return add_hours(verdict, hours, benchmark)


def _predict_hours(
    builder: Builder, benchmark: Benchmark, profile: DeviceProfile, image_counts: tuple[int, int]
) -> PredictedHours:
    shape, recipe = benchmark.data.input_shape, benchmark.recipe
    with torch.device("meta"), countable_attention():
        model = builder()
    training = training_work(model, shape, recipe.images_per_step, profile.precision)
    evaluation = evaluation_work(model, shape, EVAL_BATCH, profile.precision)
    step = predict(profile, loads_of(training, profile.cache))
    image = predict(profile, loads_of(evaluation, profile.cache)) / EVAL_BATCH
    hours = recipe.epochs * (image_counts[0] // recipe.batch_size * step + image_counts[1] * image) / 3600
    error = profile.worst_error or 0.0
    return PredictedHours(hours, hours / (1 + error), hours * (1 + error))
