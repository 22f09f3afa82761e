"""The verdict: whether a model is inside a benchmark's budget."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import nn

from arch.errors import InputError
from arch.models import build
from arch.parts import PARTS
from arch.spec import parse
from benchmarks.benchmark import Benchmark
from benchmarks.budget.cost import count_attention, count_on_meta, measure_cost, output_shape
from benchmarks.budget.throughput import measure_throughput
from benchmarks.budget.verdict import Verdict, format_hours
from benchmarks.progress import Progress, Report

Builder = Callable[[], nn.Module]


def check(
    name: str,
    builder: Builder,
    benchmark: Benchmark,
    device: str,
    counts: tuple[int, int] | None,
) -> Verdict:
    """Judges the model that `builder` returns.

    counts: training and evaluation images; None to leave speed and hours out. A model over its parameters is not timed.
    """
    verdict = check_cost(name, builder, benchmark, device)
    return verdict if counts is None or not verdict.passed else add_timing(verdict, builder, benchmark, device, counts)


def check_cost(name: str, builder: Builder, benchmark: Benchmark, device: str) -> Verdict:
    """Judges parameters and counts MACs, without running the model for real."""
    count_attention()
    model, classes = builder(), benchmark.data.num_classes
    outputs = output_shape(model, benchmark.data.input_shape)
    if outputs != (1, classes):
        raise InputError(f"{name} gives {outputs} for one image: {benchmark.name} has {classes} classes")
    cost = measure_cost(model, benchmark.data.input_shape)
    limit = benchmark.budget.max_params
    problems = (f"{cost.params:,} parameters > {limit:,}",) if cost.params > limit else ()
    return Verdict(name, benchmark.name, benchmark.budget, cost, None, None, device_name(device), problems)


def add_timing(
    verdict: Verdict, builder: Builder, benchmark: Benchmark, device: str, counts: tuple[int, int]
) -> Verdict:
    """Adds measured throughput and predicted hours to a verdict, and judges those."""
    data, recipe, limit = benchmark.data, benchmark.recipe, benchmark.budget.max_hours
    throughput = measure_throughput(builder().to(device), recipe, data.num_classes, data.input_shape)
    if throughput.hours(recipe, *counts) > limit:  # something else may have used the device just then: look twice
        again = measure_throughput(builder().to(device), recipe, data.num_classes, data.input_shape)
        throughput = max(throughput, again, key=lambda found: found.images_per_second)
    hours = throughput.hours(recipe, *counts)
    problems = verdict.problems
    if hours > limit:
        problems += (f"{format_hours(hours)} predicted on {verdict.device} > {format_hours(limit)}",)
    return replace(verdict, throughput=throughput, hours=hours, problems=problems)


def check_specs(
    report: Report,
    specs: Sequence[str],
    benchmark: Benchmark,
    device: str,
    counts: tuple[int, int],
) -> list[Verdict]:
    """Judges several of our own specs: first all of them without timing, and only if they pass, timed."""
    builders = [spec_builder(spec, benchmark) for spec in specs]
    verdicts: list[Verdict] = []
    for spec, builder in zip(specs, builders, strict=True):
        report(Progress("counting parameters and MACs", len(verdicts), len(specs), spec))
        verdicts.append(check_cost(spec, builder, benchmark, device))
    if not all(verdict.passed for verdict in verdicts):
        return [advised(verdict, verdict.model, benchmark) for verdict in verdicts]
    timed: list[Verdict] = []
    for verdict, builder in zip(verdicts, builders, strict=True):
        report(Progress("timing a few training steps", len(timed), len(specs), verdict.model))
        timed.append(add_timing(verdict, builder, benchmark, device, counts))
    return [advised(verdict, verdict.model, benchmark) for verdict in timed]


def _narrower(verdict: Verdict, spec: str, benchmark: Benchmark) -> str:
    """The largest width, in steps of 0.05, at which a spec over its budget would fit; "" where none does.

    Hours are taken to fall with the MACs, so that width is a hint and not a verdict.
    """
    variant, data, budget = parse(spec, benchmark.baseline).variant(), benchmark.data, benchmark.budget
    for percent in range(95, 9, -5):
        try:
            narrow = PARTS["width"].apply(variant, percent / 100)
        except ValueError:  # the groups do not divide this width
            continue
        params, macs = count_on_meta(partial(build, narrow, data.num_classes, data.in_chans), data.input_shape)
        hours = (verdict.hours or 0.0) * macs / verdict.cost.macs
        if params <= budget.max_params and hours <= budget.max_hours:
            return f"{percent / 100:g} times its width would fit here: {params:,} params"
    return ""


def advised(verdict: Verdict, spec: str, benchmark: Benchmark) -> Verdict:
    """The verdict on one of our specs; where it is over the budget, with what would fit."""
    return verdict if verdict.passed else replace(verdict, advice=_narrower(verdict, spec, benchmark))


def spec_builder(spec: str, benchmark: Benchmark) -> Builder:
    """Builds one of our own specs for the benchmark's images."""
    variant, data = parse(spec, benchmark.baseline).variant(), benchmark.data
    return lambda: build(variant, data.num_classes, data.in_chans)


def device_name(device: str) -> str:
    """The device as people know it: `NVIDIA GeForce RTX 3090`, or the CPU with its threads."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    return f"cpu ({torch.get_num_threads()} threads)"
