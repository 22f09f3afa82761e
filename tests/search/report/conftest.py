from collections.abc import Callable
from dataclasses import replace

import pytest
from optuna.study import Study
from optuna.trial import FrozenTrial

from arch.spec import Spec
from benchmarks.budget.verdict import ModelCost, PredictedHours, Verdict
from benchmarks.definition.benchmark import Split
from benchmarks.definition.config_parser import read_run_config
from benchmarks.definition.overrides import RunConfig
from benchmarks.records.store import RunRecord
from benchmarks.runs.run import Run
from search import trial_attrs
from search.finalists import Finalist
from search.settings import SearchSettings


@pytest.fixture
def odd_spec() -> str:
    """Return a spec that contains Rich and Markdown markup."""
    return "resnet8+[red]a|b"


@pytest.fixture
def make_finalist(
    search: SearchSettings, make_record: Callable[[Run, float, float], RunRecord], odd_spec: str
) -> Callable[..., Finalist]:
    """Return a function that builds a finalist with these accuracies on the validation and test splits."""

    def make(spec: str, validation: tuple[float, ...] = (), test: tuple[float, ...] = ()) -> Finalist:
        config = RunConfig(Spec(spec)) if spec == odd_spec else read_run_config(spec)
        cost = ModelCost(77_754, 77_754, macs_torch=774_500)
        hours = PredictedHours(0.5, 0.5, 0.5)
        verdict = Verdict(spec, "digits", search.benchmark.budget, 8, 64, cost, hours=hours)

        def records(accuracies: tuple[float, ...], split: Split) -> tuple[RunRecord, ...]:
            trained = read_run_config("resnet8") if spec == odd_spec else config
            run = Run(trained, search.benchmark, 0, search.data, "cpu", search.out, spec, 1, 1, 0.5, split=split)
            return tuple(
                replace(make_record(replace(run, seed=seed), top1, 0.25 + 0.5 * seed), spec=spec)
                for seed, top1 in enumerate(accuracies)
            )

        return Finalist(config, verdict, records(validation, "val"), records(test, "test"), len(validation))

    return make


@pytest.fixture
def all_kinds(
    new_study: Callable[..., Study], make_trial: Callable[..., FrozenTrial], failed: FrozenTrial
) -> list[FrozenTrial]:
    """Return trained, infeasible and failed trials. Width affects accuracy the most; attention has a small effect."""
    gains = {"": 0.0, "+se": 1.0, "+width=0.5": -20.0, "+width=1.5": 10.0}
    chosen = [(a, "", w) for a in ("", "+se") for w in ("", "+width=0.5", "+width=1.5")]
    chosen += [(a, "+silu", w) for a, _, w in chosen]
    trained = [make_trial(*c, top1=[60 + sum(gains.get(f, 0.0) for f in c)]) for c in chosen]
    promoted = make_trial("+eca", top1=[60.0, 70.0])
    attributes = {trial_attrs.FEASIBLE: False, trial_attrs.REASON: "2 parameters > 1"}
    infeasible = make_trial("+cbam", top1=[], **attributes)
    return new_study([*trained, promoted, infeasible, failed, failed]).trials
