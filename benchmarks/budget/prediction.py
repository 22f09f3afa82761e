"""Predict the training hours on another device from its profile."""

from dataclasses import replace

import torch

from benchmarks.budget.builders import Builder
from benchmarks.budget.cost import countable_attention
from benchmarks.budget.error_line import error_line
from benchmarks.budget.hours import add_hours
from benchmarks.budget.meta_cache import MetaCache
from benchmarks.budget.operators import evaluation_work, training_work
from benchmarks.budget.profile import DeviceProfile
from benchmarks.budget.roofline import loads_of, predict
from benchmarks.budget.timing import TimedTraining
from benchmarks.budget.verdict import PredictedHours, Verdict
from benchmarks.definition.benchmark import Benchmark
from benchmarks.training.evaluation import eval_batch_size


def add_prediction(verdict: Verdict, training: TimedTraining, profile: DeviceProfile) -> Verdict:
    """Add the hours on the device of a profile to a verdict, and compare them with the budget.

    Args:
        verdict: The verdict on the cost.
        training: The training run.
        profile: Profile of the device.
    """
    try:
        hours = predict_hours(training.builder, training.benchmark, profile, training.image_counts)
    except Exception as error:
        return replace(verdict, unjudged=f"the operators of the model cannot be listed: {error_line(error)}")
    source = f"hours are predicted from the profile of {profile.device} in {profile.precision}"
    note = f"{source}, fitted to {profile.nets} models; {profile.accuracy()}"
    if profile.derived:
        note = f"{source}: {profile.derived}"
    extrapolated = profile.extrapolation(verdict.image_size)
    notes = (*verdict.notes, f"{note}; {extrapolated}" if extrapolated else note)
    if training.has_teacher:
        notes += ("the predicted hours do not include the teacher",)
    verdict = replace(verdict, device=profile.label, derived=profile.derived, extrapolated=extrapolated, notes=notes)
    return add_hours(verdict, hours, training.benchmark)


def predict_hours(
    builder: Builder, benchmark: Benchmark, profile: DeviceProfile, image_counts: tuple[int, int]
) -> PredictedHours:
    """Predict the hours of the full recipe on the device of a profile.

    The interval is the 90th percentile of the profile's error. A profile without a measured error gives none.

    Args:
        builder: Builds the model, on the meta device.
        benchmark: Its recipe determines the hours.
        profile: Profile of the device.
        image_counts: Numbers of training and evaluation images.
    """
    shape, recipe = benchmark.data.input_shape, benchmark.recipe
    eval_batch = eval_batch_size(recipe, torch.device(profile.device_type))
    with torch.device("meta"), countable_attention():
        model = builder()
    with MetaCache():
        training = training_work(model, shape, recipe.images_per_step, profile.precision)
        evaluation = evaluation_work(model, shape, eval_batch, profile.precision)
    step = predict(profile, loads_of(training, profile.cache))
    image = predict(profile, loads_of(evaluation, profile.cache)) / eval_batch
    hours = recipe.epochs * (image_counts[0] // recipe.batch_size * step + image_counts[1] * image) / 3600
    if profile.worst_error is None:
        return PredictedHours(hours)
    factor = 1 + profile.worst_error
    return PredictedHours(hours, hours / factor, hours * factor)
