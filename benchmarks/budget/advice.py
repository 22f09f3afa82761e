"""Advice on a spec that is over its budget: the width at which it would fit."""

from dataclasses import replace
from functools import partial

from arch.models import build
from arch.parts import PARTS
from arch.variant import Variant
from benchmarks.budget.cost import count_on_meta
from benchmarks.budget.verdict import Verdict
from benchmarks.definition.benchmark import Benchmark
from benchmarks.definition.config_parser import read_run_config

WIDTH_PERCENTAGES = range(95, 9, -5)


def add_advice(verdict: Verdict, spec: str, benchmark: Benchmark) -> Verdict:
    """If a spec exceeds its budget, add advice to its verdict: the largest width factor that fits."""
    return verdict if verdict.passed else replace(verdict, advice=_width_that_fits(verdict, spec, benchmark))


def _width_that_fits(verdict: Verdict, spec: str, benchmark: Benchmark) -> str:
    """Return the advice, or "" if no width fits.

    Hours are assumed to decrease in proportion to the MACs, so the width is a hint and not a verdict.
    """
    variant, data, budget = read_run_config(spec, benchmark.baseline).architecture, benchmark.data, benchmark.budget
    if not isinstance(variant, Variant):
        return ""
    hours = verdict.hours.predicted if verdict.hours else 0.0
    for percent in WIDTH_PERCENTAGES:
        try:
            narrow = PARTS["width"].apply(variant, percent / 100)
        except ValueError:  # this width is not divisible by the number of groups
            continue
        cost = count_on_meta(partial(build, narrow, data.num_classes, data.in_chans), data.input_shape)
        share_of_macs = (cost.macs or 0) / (verdict.cost.macs or 1)
        if cost.params <= budget.max_params and hours * share_of_macs <= budget.max_hours:
            return f"+width={percent / 100:g} would fit the budget ({cost.params:,} params)"
    return ""
