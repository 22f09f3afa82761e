import re
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from arch.net import ResidualNet
from benchmarks.budget.builders import Builder, spec_builder
from benchmarks.budget.counting import check_cost, cost_verdict
from benchmarks.budget.verdict import ModelCost, Verdict
from benchmarks.definition.benchmark import Benchmark, Budget
from benchmarks.execution.device import device_name


def check(builder: Builder, benchmark: Benchmark, max_params: int = 200_000) -> Verdict:
    return check_cost("mine", builder, replace(benchmark, budget=Budget(max_params, 1.0)), "cpu")


class Pair(nn.Module):
    """Model that returns two tensors, either always or only in training mode."""

    def __init__(self, always: bool) -> None:
        super().__init__()
        self.always, self.net = always, nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        out: Tensor = self.net(x.flatten(1))
        return (out, out) if self.always or self.training else out


class Hoarder(nn.Module):
    """Model that keeps a layer in a plain list, so torch does not register it."""

    def __init__(self) -> None:
        super().__init__()
        self.known, self.hidden = nn.Linear(64, 10), [nn.Linear(10, 10)]

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.hidden[0](self.known(x.flatten(1)))
        return out


def test_verdict_names_what_it_holds_for(tiny: Benchmark, linear: Builder) -> None:
    verdict = check_cost("mine", linear, tiny, "cpu")
    assert (verdict.model, verdict.benchmark, verdict.budget) == ("mine", "tiny", tiny.budget)
    assert (verdict.image_size, verdict.batch_size, verdict.device) == (8, 32, device_name("cpu"))
    assert verdict.versions["torch"] == torch.__version__.partition("+")[0]
    assert verdict.versions.keys() == {"torch", "timm", "timm-ablate", "python"}


@pytest.mark.parametrize(("max_params", "problems"), [(650, ()), (649, ("650 parameters > 649",))])
def test_parameters_are_compared_with_the_limit(
    max_params: int, problems: tuple[str, ...], tiny: Benchmark, linear: Builder
) -> None:
    assert check(linear, tiny, max_params).problems == problems


def test_wrong_number_of_classes_is_not_checked(tiny: Benchmark, linear: Callable[..., nn.Module]) -> None:
    verdict = check(lambda: linear(7), tiny)
    assert re.search(r"\(1, 7\).*tiny.*\(1, 10\)", verdict.unjudged)
    assert verdict.conclusion == f"not checked: {verdict.unjudged}"
    assert verdict.line() == f"mine: 455 params, 448 MACs: {verdict.conclusion}"


def test_too_many_parameters_take_precedence(tiny: Benchmark, linear: Callable[..., nn.Module]) -> None:
    verdict = check(lambda: linear(7), tiny, 454)
    assert verdict.unjudged
    assert not verdict.passed
    assert verdict.conclusion == "OVER: 455 parameters > 454"


@pytest.mark.parametrize(
    ("always", "expected"),
    [(True, "returns something other than a tensor"), (False, "in training mode it returns a tuple for 32 images")],
)
def test_model_with_two_outputs_is_not_checked(tiny: Benchmark, always: bool, expected: str) -> None:
    assert expected in check(lambda: Pair(always), tiny).unjudged


def test_frozen_model_is_not_checked(tiny: Benchmark, linear: Builder) -> None:
    verdict = check(lambda: linear().requires_grad_(False), tiny)
    assert "no registered parameter receives a gradient" in verdict.unjudged


def test_hidden_parameters_count_and_are_noted(tiny: Benchmark) -> None:
    verdict = check(Hoarder, tiny, 759)
    assert verdict.problems == ("760 parameters > 759",)
    *_, note = verdict.notes
    assert note.startswith("110 parameters used but not registered")


@pytest.mark.parametrize(
    ("cost", "facts"),
    [
        (ModelCost(1, 1, macs_fvcore=80, macs_torch=100), ["20%", "fvcore's is lower"]),
        (
            ModelCost(1, 1, macs_fvcore=100, macs_torch=50, omitted=("lstm", "scan")),
            ["50%", "torch's is lower", "lstm, scan"],
        ),
        (ModelCost(1, 1, macs_torch=50, uncounted=("LSTM",)), ["MACs of LSTM are not counted"]),
    ],
)
def test_counts_that_may_be_too_low_are_noted(tiny: Benchmark, cost: ModelCost, facts: list[str]) -> None:
    *_, note = cost_verdict("mine", cost, tiny, "cpu").notes
    assert all(fact in note for fact in facts)


def test_omitted_and_uncounted_operators_have_a_note_each(tiny: Benchmark) -> None:
    cost = ModelCost(1, 1, macs_fvcore=100, macs_torch=50, omitted=("batch_norm",), uncounted=("fft_r2c x1",))
    difference, uncounted = cost_verdict("mine", cost, tiny, "cpu").notes
    assert "it does not count batch_norm" in difference
    assert uncounted == "MACs of fft_r2c x1 are not counted"


def test_counts_that_hardly_differ_are_not_noted(tiny: Benchmark) -> None:
    assert cost_verdict("mine", ModelCost(1, 1, macs_fvcore=1000, macs_torch=991), tiny, "cpu").notes == ()


def test_oversize_model_is_built_on_the_meta_device_only(tiny: Benchmark) -> None:
    devices: list[str] = []

    def builder() -> nn.Module:
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10**10))
        devices.append(model.get_parameter("1.weight").device.type)
        return model

    assert check(builder, tiny).problems == ("650,000,000,000 parameters > 200,000",)
    assert set(devices) == {"meta"}


def test_model_that_cannot_be_built_on_the_meta_device_is_checked(tiny: Benchmark, linear: Builder) -> None:
    def builder() -> nn.Module:
        model = linear()
        assert float(model.get_parameter("1.weight").abs().sum()) > 0  # reading a meta tensor would raise
        return model

    assert check(builder, tiny).passed


def test_spec_is_built_for_the_images_of_the_benchmark(tiny: Benchmark) -> None:
    model = spec_builder("baseline+se", tiny)()
    assert isinstance(model, ResidualNet)
    assert (model.num_classes, model.in_chans) == (10, 1)
