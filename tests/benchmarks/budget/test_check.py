import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from timm.layers import set_fused_attn
from torch import Tensor, nn

from arch.net import ResidualNet
from benchmarks.budget.check import Builder, TimedTraining, check, check_cost, check_specs, judge_cost, spec_builder
from benchmarks.budget.throughput import DoesNotFit
from benchmarks.budget.verdict import ModelCost, Speed, Throughput, Verdict
from benchmarks.definition.benchmark import Benchmark, Budget
from benchmarks.definition.recipe import Recipe
from benchmarks.execution.device import device_name
from benchmarks.execution.progress import Progress, silent
from benchmarks.training.compile_mode import CompileMode

COUNTS = (80, 50)
SPEED = Throughput(Speed(64.0, 60.0, 70.0), Speed(100.0, 90.0, 110.0), batch_size=32)
SECONDS = 2 * (64 / 64.0 + 50 / 100.0)  # two epochs of two batches of 32, at SPEED
LEAST = 2 * (64 / 70.0 + 50 / 110.0)
MOST = 2 * (64 / 60.0 + 50 / 90.0)
RESNET8 = 77_754  # parameters with one channel and ten classes


@pytest.fixture(autouse=True)
def _fused_attention_as_before() -> Iterator[None]:
    yield
    set_fused_attn(True)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing is measured yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(autouse=True)
def timed(monkeypatch: pytest.MonkeyPatch) -> list[nn.Module]:
    """The models that were timed; each is as fast as SPEED."""
    models: list[nn.Module] = []

    def measure(
        model: nn.Module, recipe: Recipe, classes: int, shape: object, compile_mode: CompileMode, *_: object
    ) -> Throughput:
        models.append(model)
        return replace(SPEED, compile_mode=compile_mode)

    monkeypatch.setattr("benchmarks.budget.check.measure_throughput", measure)
    return models


def with_budget(benchmark: Benchmark, params: int = 200_000, hours: float = 1.0) -> Benchmark:
    return replace(benchmark, budget=Budget(params, hours))


def judge(benchmark: Benchmark, counts: tuple[int, int] | None = COUNTS) -> Verdict:
    return check("resnet8", spec_builder("resnet8", benchmark), benchmark, "cpu", counts, silent)


def linear(classes: int = 10) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, classes))


def judged(builder: Builder, benchmark: Benchmark, counts: tuple[int, int] | None = COUNTS) -> Verdict:
    return check("mine", builder, benchmark, "cpu", counts, silent)


def of_speed(images: float) -> Throughput:
    """Trains so many images a second, in every window."""
    return replace(SPEED, training=Speed(images, images, images))


def test_a_model_inside_the_budget_passes(tiny: Benchmark, timed: list[nn.Module]) -> None:
    verdict = judge(with_budget(tiny))
    assert verdict.passed
    assert verdict.problems == ()
    assert verdict.throughput == SPEED
    assert verdict.hours is not None
    assert verdict.hours.predicted == pytest.approx(SECONDS / 3600)
    assert verdict.conclusion == "within budget"
    assert verdict.line() == f"resnet8: 77,754 params, {verdict.cost.macs:,} MACs, 3 s predicted: within budget"
    assert len(timed) == 1


def test_a_model_at_the_limits_passes(tiny: Benchmark) -> None:
    verdict = judge(with_budget(tiny, RESNET8, 1.001 * MOST / 3600))
    assert verdict.passed
    assert not any("too close" in note for note in verdict.notes)


def test_a_verdict_says_what_it_holds_for(tiny: Benchmark) -> None:
    verdict = judge(tiny)
    assert (verdict.model, verdict.benchmark, verdict.budget) == ("resnet8", "tiny", tiny.budget)
    assert (verdict.image_size, verdict.batch_size, verdict.device) == (8, 32, device_name("cpu"))
    assert verdict.versions["torch"] == torch.__version__.partition("+")[0]
    assert verdict.versions.keys() == {"torch", "timm", "timm-ablate", "python"}


def test_progress_is_told(tiny: Benchmark) -> None:
    reports: list[Progress] = []
    check("mine", linear, tiny, "cpu", COUNTS, reports.append)
    assert [(report.task, report.done, report.total, report.note) for report in reports] == [
        ("counting parameters and MACs", 0, 2, "mine"),
        ("timing a few training steps", 1, 2, "mine"),
    ]


def test_too_many_parameters_are_named_and_not_timed(tiny: Benchmark, timed: list[nn.Module]) -> None:
    verdict = judge(with_budget(tiny, params=RESNET8 - 1))
    assert not verdict.passed
    assert verdict.problems == ("77,754 parameters > 77,753",)
    assert (verdict.throughput, verdict.hours, timed) == (None, None, [])
    assert verdict.line().endswith("MACs: OVER: 77,754 parameters > 77,753")


def test_too_many_hours_are_named(tiny: Benchmark) -> None:
    verdict = judge(with_budget(tiny, hours=0.0005))
    assert verdict.problems == (f"3 s predicted on {device_name('cpu')} > 2 s",)
    assert not verdict.passed
    assert verdict.conclusion == f"OVER: {verdict.problems[0]}"


def test_a_limit_inside_the_interval_of_the_hours_is_no_problem_but_a_note(tiny: Benchmark) -> None:
    for seconds in ((LEAST + SECONDS) / 2, SECONDS, (SECONDS + MOST) / 2):
        verdict = judged(linear, with_budget(tiny, hours=seconds / 3600))
        assert verdict.passed
        assert verdict.notes == ("too close to call: the limit is inside the interval of the predicted hours",)


@pytest.mark.parametrize(("share", "passes"), [(0.999, False), (1.001, True)])
def test_hours_are_over_where_the_least_of_them_are(tiny: Benchmark, share: float, passes: bool) -> None:
    assert judge(with_budget(tiny, hours=share * LEAST / 3600)).passed is passes


def test_without_counts_nothing_is_timed(tiny: Benchmark, timed: list[nn.Module]) -> None:
    verdict = judge(with_budget(tiny, hours=1e-9), counts=None)
    assert verdict.passed
    assert (verdict.throughput, verdict.hours, timed) == (None, None, [])
    assert verdict.line().endswith("MACs: within budget")


def test_a_verdict_is_plain_data(tiny: Benchmark) -> None:
    verdict = judge(with_budget(tiny))
    content = json.loads(json.dumps(verdict.to_json()))
    assert content["macs"] == verdict.cost.macs
    assert content["flops"] == 2 * macs(verdict)
    assert content["passed"] is True
    assert content["cost"]["params"] == RESNET8
    assert content["throughput"]["batch_size"] == 32
    assert content["hours"]["low"] < content["hours"]["predicted"] < content["hours"]["high"]
    assert content["conclusion"] == "within budget"


def test_what_could_not_be_counted_is_null(tiny: Benchmark) -> None:
    content = judge_cost("weights", ModelCost(10, 10), tiny, "cpu").to_json()
    assert (content["macs"], content["flops"], content["passed"]) == (None, None, True)


def test_a_line_leaves_out_what_could_not_be_counted(tiny: Benchmark) -> None:
    assert judge_cost("weights", ModelCost(10, 10), tiny, "cpu").line() == "weights: 10 params: within budget"


def test_specs_are_judged_in_their_order(tiny: Benchmark, timed: list[nn.Module]) -> None:
    reports: list[Progress] = []
    verdicts = check_specs(reports.append, ["resnet8", "baseline+se"], with_budget(tiny), "cpu", COUNTS)
    assert [verdict.model for verdict in verdicts] == ["resnet8", "baseline+se"]
    assert [verdict.hours for verdict in verdicts] == [SPEED.hours(tiny.recipe, *COUNTS)] * 2
    assert verdicts[0].cost.params == RESNET8 < verdicts[1].cost.params
    assert [(report.done, report.note) for report in reports] == [(0, "resnet8"), (1, "baseline+se")] * 2


def test_one_spec_over_its_parameters_keeps_all_from_being_timed(tiny: Benchmark, timed: list[nn.Module]) -> None:
    verdicts = check_specs(silent, ["resnet8", "resnet8+se"], with_budget(tiny, params=RESNET8), "cpu", COUNTS)
    assert [verdict.passed for verdict in verdicts] == [True, False]
    assert [verdict.hours for verdict in verdicts] == [None, None]
    assert timed == []


WIDTH = re.compile(r"(0\.\d+) times its width would fit here: ([\d,]+) params")


def test_a_spec_over_its_parameters_is_told_a_width_that_fits(tiny: Benchmark) -> None:
    benchmark = with_budget(tiny, params=RESNET8 // 2)
    (verdict,) = check_specs(silent, ["resnet8"], benchmark, "cpu", COUNTS)
    width, params = parsed(verdict.advice)
    (narrow,) = check_specs(silent, [f"resnet8+width={width}"], benchmark, "cpu", COUNTS)
    assert narrow.passed
    assert narrow.cost.params == params
    assert narrow.advice == ""
    assert verdict.line().endswith(f"({verdict.advice})")


def test_the_width_that_fits_is_the_largest(tiny: Benchmark) -> None:
    benchmark = with_budget(tiny, params=RESNET8 // 2)
    (verdict,) = check_specs(silent, ["resnet8"], benchmark, "cpu", COUNTS)
    wider = f"resnet8+width={parsed(verdict.advice)[0] + 0.05:.2f}"
    assert check_cost(wider, spec_builder(wider, benchmark), benchmark, "cpu").cost.params > RESNET8 // 2


def parsed(advice: str) -> tuple[float, int]:
    match = WIDTH.fullmatch(advice)
    assert match is not None
    return float(match[1]), int(match[2].replace(",", ""))


def test_a_spec_over_its_hours_is_told_a_width_with_as_many_macs_less(tiny: Benchmark) -> None:
    (verdict,) = check_specs(silent, ["resnet8"], with_budget(tiny, hours=SECONDS / 3600 / 2), "cpu", COUNTS)
    narrow = spec_builder(f"resnet8+width={parsed(verdict.advice)[0]}", tiny)
    assert macs(check_cost("", narrow, tiny, "cpu")) < 0.55 * macs(verdict)


def macs(verdict: Verdict) -> int:
    assert verdict.cost.macs is not None
    return verdict.cost.macs


def test_where_no_width_fits_none_is_named(tiny: Benchmark) -> None:
    (verdict,) = check_specs(silent, ["resnet8"], with_budget(tiny, params=10), "cpu", COUNTS)
    assert verdict.advice == ""
    assert verdict.line().endswith("OVER: 77,754 parameters > 10")


def test_one_spec_over_its_hours_fails_alone(tiny: Benchmark, monkeypatch: pytest.MonkeyPatch) -> None:
    speeds = iter([SPEED, of_speed(0.1), of_speed(0.1)])  # what is too slow is looked at twice
    monkeypatch.setattr("benchmarks.budget.check.measure_throughput", lambda *_: next(speeds))
    verdicts = check_specs(silent, ["resnet8", "resnet8+se"], with_budget(tiny, hours=0.1), "cpu", COUNTS)
    assert [verdict.passed for verdict in verdicts] == [True, False]


def test_a_model_slow_for_a_moment_is_inside_its_hours(tiny: Benchmark, monkeypatch: pytest.MonkeyPatch) -> None:
    speeds = iter([of_speed(0.1), SPEED])
    monkeypatch.setattr("benchmarks.budget.check.measure_throughput", lambda *_: next(speeds))
    (verdict,) = check_specs(silent, ["resnet8"], with_budget(tiny, hours=0.1), "cpu", COUNTS)
    assert verdict.passed
    assert verdict.throughput == SPEED


def test_a_batch_of_the_recipe_that_could_not_be_timed_is_noted(
    tiny: Benchmark, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.budget.check.measure_throughput", lambda *_: replace(SPEED, batch_size=8))
    assert judged(linear, tiny).notes == ("speed is reckoned from batches of up to 8: one of 32 takes too long here",)


def test_a_model_that_needs_more_memory_than_is_free_is_over(
    tiny: Benchmark, timed: list[nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.budget.check.free_memory", lambda _: 2**20 // 4)
    verdict = judge(tiny)
    (problem,) = verdict.problems
    assert re.fullmatch(r"training on a batch of 32 takes about \d+ MiB of memory: 0 MiB are free", problem)
    assert (verdict.hours, timed) == (None, [])


def test_a_batch_that_does_not_fit_is_over(tiny: Benchmark, monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(*_: object) -> Throughput:
        raise DoesNotFit("training on a batch of 32 does not fit")

    monkeypatch.setattr("benchmarks.budget.check.measure_throughput", measure)
    verdict = judged(linear, tiny)
    assert verdict.problems == ("training on a batch of 32 does not fit",)
    assert verdict.hours is None


def test_a_model_with_another_number_of_classes_is_not_judged(tiny: Benchmark, timed: list[nn.Module]) -> None:
    verdict = judged(lambda: linear(7), tiny)
    assert verdict.unjudged == "it gives (1, 7) for one image: tiny has 10 classes"
    assert verdict.conclusion == f"not judged: {verdict.unjudged}"
    assert verdict.line() == f"mine: 455 params, 448 MACs: {verdict.conclusion}"
    assert timed == []


def test_too_many_parameters_are_over_whatever_else_cannot_be_judged(tiny: Benchmark) -> None:
    verdict = judged(lambda: linear(7), with_budget(tiny, params=454))
    assert verdict.unjudged
    assert not verdict.passed
    assert verdict.conclusion == "OVER: 455 parameters > 454"


class Pair(nn.Module):
    """Gives two tensors: always, or while it trains."""

    def __init__(self, always: bool) -> None:
        super().__init__()
        self.always, self.net = always, linear()

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        out: Tensor = self.net(x)
        return (out, out) if self.always or self.training else out


@pytest.mark.parametrize(
    ("always", "expected"),
    [
        (True, "it gives no tensor for one image: tiny has 10 classes"),
        (False, "it cannot be trained: while training it gives a tuple for 32 images"),
    ],
)
def test_a_model_that_gives_two_tensors_is_not_judged(
    tiny: Benchmark, timed: list[nn.Module], always: bool, expected: str
) -> None:
    assert judged(lambda: Pair(always), tiny).unjudged == expected
    assert timed == []


def test_a_frozen_model_is_not_judged(tiny: Benchmark, timed: list[nn.Module]) -> None:
    verdict = judged(lambda: linear().requires_grad_(False), tiny)
    assert verdict.unjudged == "it cannot be trained: no registered parameter takes a gradient"
    assert timed == []


class Hoarder(nn.Module):
    """Keeps its layer where torch does not look for it."""

    def __init__(self) -> None:
        super().__init__()
        self.known, self.hidden = nn.Linear(64, 10), [nn.Linear(10, 10)]

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.hidden[0](self.known(x.flatten(1)))
        return out


def test_hidden_parameters_are_noted_and_count(tiny: Benchmark) -> None:
    verdict = judged(Hoarder, with_budget(tiny, params=759), counts=None)
    assert verdict.problems == ("760 parameters > 759",)
    assert verdict.notes == ("110 parameters are used but not registered (in a plain list?): no optimizer sees them",)


@pytest.mark.parametrize(
    ("cost", "note"),
    [
        (ModelCost(1, 1, macs_fvcore=80, macs_torch=100), "the counts of MACs differ by 20%: fvcore's is lower"),
        (
            ModelCost(1, 1, macs_fvcore=100, macs_torch=50, uncounted=("lstm", "scan")),
            "the counts of MACs differ by 50%: torch's is lower (it leaves out lstm, scan)",
        ),
        (ModelCost(1, 1, macs_torch=50, uncounted=("LSTM",)), "MACs of LSTM are not counted"),
    ],
)
def test_counts_that_may_be_too_low_are_noted(tiny: Benchmark, cost: ModelCost, note: str) -> None:
    assert judge_cost("mine", cost, tiny, "cpu").notes == (note,)


def test_counts_that_hardly_differ_are_not_noted(tiny: Benchmark) -> None:
    assert judge_cost("mine", ModelCost(1, 1, macs_fvcore=1000, macs_torch=991), tiny, "cpu").notes == ()


def test_a_model_far_over_the_limit_is_never_built_for_real(tiny: Benchmark) -> None:
    devices: list[str] = []

    def builder() -> nn.Module:
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10**10))
        devices.append(model.get_parameter("1.weight").device.type)
        return model

    verdict = judged(builder, tiny)
    assert verdict.problems == ("650,000,000,000 parameters > 200,000",)
    assert set(devices) == {"meta"}


def test_a_model_that_cannot_be_built_without_memory_is_judged(tiny: Benchmark) -> None:
    def builder() -> nn.Module:
        model = linear()
        assert float(model.get_parameter("1.weight").abs().sum()) > 0  # a meta tensor has no value
        return model

    assert judged(builder, tiny).passed


def test_a_model_is_built_anew_for_timing(tiny: Benchmark, timed: list[nn.Module]) -> None:
    built: list[nn.Module] = []

    def builder() -> nn.Module:
        built.append(spec_builder("resnet8", tiny)())
        return built[-1]

    judged(builder, with_budget(tiny))
    assert [next(model.parameters()).device.type for model in built] == ["meta", "cpu", "cpu"]
    assert timed == built[2:]


def test_a_spec_is_built_for_the_benchmarks_images(tiny: Benchmark) -> None:
    model = spec_builder("baseline+se", tiny)()
    assert isinstance(model, ResidualNet)
    assert (model.num_classes, model.in_chans) == (10, 1)


def test_dead_parameters_do_not_break_a_verdict() -> None:
    cost = ModelCost(10, 10, dead_params=("layer.weight",), macs_fvcore=5, macs_torch=6)
    verdict = Verdict("mine", "tiny", Budget(), 8, 32, cost)
    assert verdict.passed
    assert json.loads(json.dumps(verdict.to_json()))["cost"]["dead_params"] == ["layer.weight"]


# What follows is of measurements that are kept, and of compiling.

ROWS = ["resnet8", "baseline+se"]


def judged_specs(benchmark: Benchmark, specs: list[str] = ROWS) -> list[Verdict]:
    return check_specs(silent, specs, benchmark, "cpu", COUNTS)


def forbid(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def call(*_: object) -> None:
        pytest.fail(f"{name} was called")

    monkeypatch.setattr(f"benchmarks.budget.check.{name}", call)


def test_what_was_measured_once_is_not_measured_again(
    tiny: Benchmark, timed: list[nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = judged_specs(with_budget(tiny))
    assert len(timed) == 2
    for name in ("_measure", "check_cost"):
        forbid(name, monkeypatch)
    assert judged_specs(with_budget(tiny)) == first
    assert judged_specs(with_budget(tiny), ROWS[::-1]) == first[::-1]
    assert all(verdict.throughput == SPEED for verdict in first)


def test_a_new_row_is_the_only_one_that_is_measured(tiny: Benchmark, timed: list[nn.Module]) -> None:
    judged_specs(with_budget(tiny), ["resnet8"])
    judged_specs(with_budget(tiny))
    assert len(timed) == 2
    assert sum(p.numel() for p in timed[0].parameters()) == RESNET8 < sum(p.numel() for p in timed[1].parameters())


def test_with_another_recipe_rows_are_measured_again(tiny: Benchmark, timed: list[nn.Module]) -> None:
    judged_specs(with_budget(tiny), ["resnet8"])
    judged_specs(replace(with_budget(tiny), recipe=replace(tiny.recipe, batch_size=16)), ["resnet8"])
    assert len(timed) == 2


def test_what_was_measured_is_judged_by_the_budget_of_today(tiny: Benchmark, timed: list[nn.Module]) -> None:
    judged_specs(with_budget(tiny), ["resnet8"])
    (verdict,) = judged_specs(with_budget(tiny, params=RESNET8 - 1), ["resnet8"])
    assert verdict.problems == ("77,754 parameters > 77,753",)
    assert len(timed) == 1


def test_what_was_too_slow_then_is_measured_again(tiny: Benchmark, monkeypatch: pytest.MonkeyPatch) -> None:
    speeds = iter([of_speed(0.1), of_speed(0.1), SPEED])  # what is too slow is looked at twice
    monkeypatch.setattr("benchmarks.budget.check._measure", lambda *_: next(speeds))
    benchmark = with_budget(tiny, hours=0.1)
    assert [judged_specs(benchmark, ["resnet8"])[0].passed for _ in range(3)] == [False, True, True]
    assert next(speeds, None) is None


def test_where_one_row_has_too_many_parameters_the_counts_are_kept(
    tiny: Benchmark, timed: list[nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    judged_specs(with_budget(tiny))
    forbid("check_cost", monkeypatch)
    verdicts = judged_specs(with_budget(tiny, params=RESNET8))
    assert [verdict.passed for verdict in verdicts] == [True, False]
    assert [verdict.hours for verdict in verdicts] == [None, None]


def with_executions(monkeypatch: pytest.MonkeyPatch, **found: Throughput | Exception) -> list[str]:
    """Each compile_mode is as fast as told, or raises; compiling is worth it for any net. Returns what is measured."""
    measured: list[str] = []

    def measure(training: TimedTraining, compile_mode: CompileMode = "eager") -> Throughput:
        measured.append(compile_mode)
        outcome = found[compile_mode]
        if isinstance(outcome, Exception):
            raise outcome
        return replace(outcome, compile_mode=compile_mode)

    monkeypatch.setattr("benchmarks.budget.check._measure", measure)
    monkeypatch.setattr("benchmarks.budget.check.WORTH_COMPILING", 0.0)
    return measured


def chosen(benchmark: Benchmark) -> tuple[str, Verdict]:
    (verdict,) = judged_specs(benchmark, ["resnet8"])
    assert verdict.throughput is not None
    return verdict.throughput.compile_mode, verdict


def test_a_net_that_is_faster_compiled_is_compiled_and_that_is_kept(
    tiny: Benchmark, monkeypatch: pytest.MonkeyPatch
) -> None:
    fast = replace(of_speed(640.0), compile_seconds=0.5)
    measured = with_executions(monkeypatch, eager=SPEED, compiled=fast)
    compile_mode, verdict = chosen(with_budget(tiny))
    assert compile_mode == "compile"
    assert verdict.hours == fast.hours(tiny.recipe, *COUNTS)
    assert chosen(with_budget(tiny)) == ("compile", verdict)
    assert measured == ["eager", "compile"]


def test_a_net_that_compiles_for_longer_than_it_gains_is_not(tiny: Benchmark, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = replace(of_speed(640.0), compile_seconds=SECONDS)
    measured = with_executions(monkeypatch, eager=SPEED, compiled=slow)
    compile_mode, verdict = chosen(with_budget(tiny))
    assert compile_mode == "eager"
    assert verdict.hours == SPEED.hours(tiny.recipe, *COUNTS)
    assert measured == ["eager", "compile"]


def test_a_net_that_cannot_be_compiled_says_why(tiny: Benchmark, monkeypatch: pytest.MonkeyPatch) -> None:
    with_executions(monkeypatch, eager=SPEED, compiled=RuntimeError("no C++ compiler\nand more"))
    compile_mode, verdict = chosen(with_budget(tiny))
    assert compile_mode == "eager"
    assert verdict.passed
    (note,) = [note for note in verdict.notes if "compile" in note]
    assert note.startswith("compiled it cannot run: ")
    assert "no C++ compiler" in note
    assert "\n" not in note


def test_on_a_gpu_the_fastest_of_three_is_taken(tiny: Benchmark, monkeypatch: pytest.MonkeyPatch) -> None:
    ways: dict[str, Throughput] = {"eager": SPEED, "compile": of_speed(640.0), "cuda_graphs": of_speed(1280.0)}
    measured = with_executions(monkeypatch, **ways)
    for name in ("benchmarks.budget.check.device_name", "benchmarks.budget.measurement.device_name"):
        monkeypatch.setattr(name, lambda _: "a GPU")
    monkeypatch.setattr("benchmarks.budget.check.free_memory", lambda _: 2**40)
    (verdict,) = check_specs(silent, ["resnet8"], with_budget(tiny), "cuda:1", COUNTS)
    assert measured == ["eager", "compile", "cuda_graphs"]
    assert verdict.throughput is not None
    assert verdict.throughput.compile_mode == "cuda_graphs"


def test_a_net_too_slow_as_written_is_within_its_hours_compiled(
    tiny: Benchmark, monkeypatch: pytest.MonkeyPatch
) -> None:
    fast = replace(of_speed(6400.0), evaluation=Speed(1e4, 1e4, 1e4))
    measured = with_executions(monkeypatch, eager=SPEED, compiled=fast)
    compile_mode, verdict = chosen(with_budget(tiny, hours=0.9 * LEAST / 3600))
    assert (compile_mode, verdict.problems, verdict.advice) == ("compile", (), "")
    assert measured == ["eager", "eager", "compile"]


@pytest.mark.parametrize("words", ["short", "hopeless", "unfilled"])
def test_compiling_is_not_tried_where_it_would_not_help(
    words: str, tiny: Benchmark, monkeypatch: pytest.MonkeyPatch
) -> None:
    eager = replace(SPEED, batch_size=8) if words == "unfilled" else SPEED
    measured = with_executions(monkeypatch, eager=eager)
    if words == "short":
        monkeypatch.setattr("benchmarks.budget.check.WORTH_COMPILING", 1.01 * SECONDS / 3600)
    compile_mode, _ = chosen(with_budget(tiny, hours=LEAST / 3600 / 2.1 if words == "hopeless" else 1.0))
    assert compile_mode == "eager"
    assert set(measured) == {"eager"}
