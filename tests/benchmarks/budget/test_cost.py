import copy
import random
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import prune

from arch.models import build
from arch.spec import parse
from benchmarks.budget.cost import count_on_meta, countable_attention, measure_cost
from benchmarks.budget.parameters import registered_parameters
from benchmarks.budget.verdict import MAC_COUNT_TOLERANCE, ModelCost, StageCost


@pytest.fixture
def _countable_attention() -> Iterator[None]:
    with countable_attention():
        yield


class Small(nn.Module):
    """Model that maps three channels to two outputs and has an unused layer."""

    def __init__(self) -> None:
        super().__init__()
        self.used = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.frozen = nn.Conv2d(4, 2, 1).requires_grad_(False)
        self.unused = nn.Linear(5, 5)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.frozen(self.norm(self.used(x))).mean((2, 3))
        return out


class Hoarder(nn.Module):
    """Model that keeps one of its layers in a plain list, so torch does not register it."""

    def __init__(self) -> None:
        super().__init__()
        self.known, self.hidden = nn.Linear(12, 12), [nn.Linear(12, 5)]

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.hidden[0](self.known(x.flatten(1)))
        return out


class Attention(nn.Module):
    """Single-head attention over the pixels, computed by `scaled_dot_product_attention`."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(8, 8, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.project(x.flatten(2).transpose(1, 2))[:, None]
        return F.scaled_dot_product_attention(tokens, tokens, tokens).flatten(1)


class ReadsValues(nn.Module):
    """Model that reads tensor values, which are not available on the meta device."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(12, 5, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        assert bool((x >= 0).all())
        out: Tensor = self.layer(x.flatten(1))
        return out


class Pair(nn.Module):
    """Model that returns two tensors, either always or only in training mode."""

    def __init__(self, always: bool) -> None:
        super().__init__()
        self.always, self.layer = always, nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        out: Tensor = self.layer(x.flatten(1))
        return (out, out) if self.always or self.training else out


class Shy(nn.Module):
    """Model that computes less while it is being traced, as it is when fvcore counts."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(12, 12, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x.flatten(1))
        traced = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
        return out if traced else self.layer(self.layer(out))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spec", "params", "gmacs"),
    [("resnet18", 11_220_132, 0.557), ("resnet18+se", 11_310_244, 0.557)],
)
def test_published_counts_are_reproduced(spec: str, params: int, gmacs: float) -> None:
    cost = measure_cost(lambda: build(parse(spec).variant(), 100), (3, 32, 32), 2)
    assert (cost.params, cost.trainable_params, cost.dead_params) == (params, params, ())
    assert (cost.reached_params, cost.hidden_params, cost.untrainable) == (params, 0, "")
    assert round(macs(cost) / 1e9, 3) == gmacs


def macs(cost: ModelCost) -> int:
    assert cost.macs is not None
    return cost.macs


def test_convolution_is_counted() -> None:
    cost = measure_cost(lambda: nn.Conv2d(3, 8, 3, padding=1, bias=False), (3, 10, 12), 5)
    assert cost == ModelCost(
        params=216,
        trainable_params=216,
        reached_params=216,
        macs_fvcore=216 * 120,
        macs_torch=216 * 120,
        activations=8 * 120,
        training_memory=3 * 4 * 216 + 5 * 4 * 3 * 120,  # float32; the input is saved for backward
        output_shape=(1, 8, 10, 12),
    )


@pytest.mark.parametrize("batch_size", [1, 64])
def test_training_memory_is_weights_gradients_momentum_and_inputs(batch_size: int) -> None:
    cost = measure_cost(lambda: nn.Sequential(nn.Flatten(), nn.Linear(12, 5, bias=False)), (3, 2, 2), batch_size)
    assert cost.training_memory == 4 * (3 * 12 * 5 + batch_size * 12)


def test_training_memory_is_scaled_if_the_model_reads_values() -> None:
    cost = measure_cost(lambda: ReadsValues(), (3, 2, 2), 64)
    assert cost.training_memory == 4 * (3 * 12 * 5 + 64 * 12)
    assert cost.reached_params == 60


def test_activations_of_each_layer_are_counted() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 5))
    assert measure_cost(lambda: net, (3, 4, 4), 2).activations == 4 * 4 + 5


def test_dead_parameters_are_named() -> None:
    cost = measure_cost(lambda: Small(), (3, 8, 8), 2)
    assert cost.dead_params == ("unused.weight", "unused.bias")
    assert cost.params == (3 * 4 * 9 + 4) + 8 + (4 * 2 + 2) + 30
    assert cost.reached_params == (3 * 4 * 9 + 4) + 8


class SkippedBlocks(nn.Module):
    """Model that skips each of its blocks at random while it trains, and never uses one more layer."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks, self.unused = nn.ModuleList(nn.Linear(4, 4) for _ in range(12)), nn.Linear(5, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = x.mean((1, 2))
        for block in self.blocks:
            x = x if self.training and random.random() < 0.5 else x + block(x)
        return x


def test_blocks_that_are_skipped_at_random_are_not_dead() -> None:
    random.seed(0)
    for _ in range(3):
        cost = measure_cost(SkippedBlocks, (3, 4, 4), 8)
        assert cost.dead_params == ("unused.weight", "unused.bias")
        assert cost.reached_params == 12 * 20


def test_layer_for_evaluation_only_is_dead() -> None:
    class TwoHeads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.training_head, self.head = nn.Linear(4, 2), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = (self.training_head if self.training else self.head)(x.mean((1, 2)))
            return logits

    assert measure_cost(TwoHeads, (3, 4, 4), 8).dead_params == ("head.weight", "head.bias")


# Named here, because torch reads a comment behind a decorator as the types of the function.
script_method: Callable[[Callable[..., Tensor]], Callable[..., Tensor]] = vars(torch.jit)["script_method"]


class Gate(torch.jit.ScriptModule):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 1)

    @script_method
    def forward(self, x: Tensor) -> Tensor:
        gated: Tensor = self.conv(x) * torch.sigmoid(x)
        return gated


def test_script_module_inside_a_module_is_counted() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.gate = nn.Conv2d(3, 4, 3), Gate()

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.gate(self.stem(x)).mean((2, 3))
            return logits

    cost = measure_cost(Net, (3, 8, 8), 8)
    assert cost.params == cost.reached_params == (4 * 27 + 4) + (16 + 4)
    assert cost.macs_torch == 36 * (4 * 27 + 16)


def test_frozen_parameters_are_neither_trainable_nor_dead() -> None:
    cost = measure_cost(lambda: Small(), (3, 8, 8), 2)
    assert cost.trainable_params == cost.params - (4 * 2 + 2)


def test_shared_parameters_are_counted_once() -> None:
    layer = nn.Linear(12, 12)
    assert measure_cost(lambda: nn.Sequential(nn.Flatten(), layer, layer), (3, 2, 2), 2).params == 12 * 12 + 12


def test_hidden_parameters_are_counted() -> None:
    known, hidden = 12 * 12 + 12, 12 * 5 + 5
    cost = measure_cost(lambda: Hoarder(), (3, 2, 2), 2)
    assert (cost.params, cost.hidden_params, cost.reached_params) == (known + hidden, hidden, known + hidden)
    assert cost.trainable_params == known  # the parameters that an optimizer receives


def test_memory_of_hidden_parameters_does_not_depend_on_the_batch() -> None:
    small, large = (measure_cost(lambda: Hoarder(), (3, 2, 2), batch_size).training_memory for batch_size in (2, 64))
    assert small is not None
    assert large is not None
    assert large - small == 62 * 4 * (12 + 12)  # each of the two layers saves its input


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (nn.Conv2d(3, 4, 1).requires_grad_(False), "no registered parameter receives a gradient"),
        (nn.Flatten(), "no registered parameter receives a gradient"),
        (Pair(always=True), "in training mode it returns a tuple for 2 images"),
        (Pair(always=False), "in training mode it returns a tuple for 2 images"),
    ],
    ids=["frozen", "empty", "always two", "two in training"],
)
def test_untrainable_model_has_a_reason(model: nn.Module, reason: str) -> None:
    assert measure_cost(lambda: model, (3, 2, 2), 2).untrainable == reason


def test_error_in_training_is_the_reason() -> None:
    class Broken(nn.Flatten):
        def forward(self, x: Tensor) -> Tensor:
            if self.training:
                raise ValueError("not today\nnor tomorrow")
            return super().forward(x)

    cost = measure_cost(lambda: Broken(), (3, 2, 2), 2)
    assert cost.untrainable == "ValueError: not today"
    assert cost.output_shape == (1, 12)


def test_output_that_is_no_tensor_has_no_shape() -> None:
    assert measure_cost(lambda: Pair(always=True), (3, 2, 2), 2).output_shape == ()
    assert measure_cost(lambda: Pair(always=False), (3, 2, 2), 2).output_shape == (1, 5)


class Liar(nn.Sequential):
    """Model that hides its parameters and modules."""

    def named_parameters(self, *_: object, **__: object) -> Iterator[Any]:
        return iter(())

    parameters = named_modules = named_children = modules = children = named_parameters


def test_parameters_are_read_from_a_model_that_hides_them() -> None:
    liar = Liar(nn.Flatten(), nn.Linear(12, 5), nn.Sequential(nn.Linear(5, 2, bias=False)))
    assert list(registered_parameters(liar)) == ["1.weight", "1.bias", "2.0.weight"]
    assert measure_cost(lambda: liar, (3, 2, 2), 2).params == 12 * 5 + 5 + 10


def test_cyclic_modules_are_read_once() -> None:
    first, second = nn.Linear(2, 3), nn.Linear(3, 4, bias=False)
    first.next, second.next = second, first
    assert list(registered_parameters(first)) == ["weight", "bias", "next.weight"]


def test_registered_parameters_are_those_of_torch() -> None:
    model = build(parse("resnet8+se").variant(), 10)
    parameters = registered_parameters(model)
    assert list(parameters) == [name for name, _ in model.named_parameters()]
    assert all(parameters[name] is parameter for name, parameter in model.named_parameters())


def test_lazy_modules_are_counted() -> None:
    cost = measure_cost(lambda: nn.Sequential(nn.Flatten(), nn.LazyLinear(5)), (3, 2, 2), 2)
    assert (cost.params, cost.macs, cost.reached_params) == (65, 60, 65)


def test_lazy_module_stays_lazy() -> None:
    model = nn.Sequential(nn.Flatten(), nn.LazyLinear(5))
    measure_cost(lambda: model, (3, 2, 2), 2)
    assert isinstance(model[1].weight, nn.UninitializedParameter)


def test_model_that_is_too_large_for_the_memory_is_counted() -> None:
    cost = measure_cost(lambda: nn.Sequential(nn.Flatten(), nn.Linear(12, 10**10, bias=False)), (3, 2, 2), 64)
    assert (cost.params, cost.reached_params, cost.macs_torch) == (12 * 10**10,) * 3
    assert (cost.macs_fvcore, cost.activations) == (None, None)  # fvcore needs real tensors
    assert cost.training_memory == 4 * (3 * 12 * 10**10 + 64 * 12)


class Recorded(nn.Sequential):
    """Model that records on which device and in which mode it runs."""

    def __init__(self, *layers: nn.Module, runs: list[str]) -> None:
        super().__init__(*layers)
        self.runs, self.weight = runs, nn.Parameter(torch.zeros(1))

    def __deepcopy__(self, memo: dict[int, Any]) -> "Recorded":
        copied = Recorded(*(copy.deepcopy(layer, memo) for layer in self), runs=self.runs)
        copied.weight = copy.deepcopy(self.weight, memo)
        return copied

    def forward(self, x: Tensor) -> Tensor:
        self.runs.append(f"{'training' if self.training else 'evaluation'} on {x.device.type}")
        out: Tensor = super().forward(x * self.weight)  # type: ignore[no-untyped-call]
        return out


def test_model_is_built_once_and_without_weights() -> None:
    devices: list[str] = []
    runs: list[str] = []

    def builder() -> nn.Module:
        model = Recorded(nn.Conv2d(3, 4, 1), runs=runs)
        devices.append(model.weight.device.type)
        return model

    assert measure_cost(builder, (3, 5, 5), 2).activations == 4 * 25
    assert devices == ["meta"]
    assert sorted(runs) == ["evaluation on cpu"] * 2 + ["training on meta"]


def test_dead_parameters_need_no_repeated_steps() -> None:
    runs: list[str] = []

    def builder() -> nn.Module:
        model = Recorded(nn.Conv2d(3, 4, 1), runs=runs)
        model.register_parameter("unused", nn.Parameter(torch.zeros(3)))
        return model

    assert measure_cost(builder, (3, 5, 5), 2).dead_params == ("unused",)
    assert runs.count("training on meta") == 1


class Selective(nn.Module):
    """Model that reads values in evaluation mode only, so that only its own weights give the right counts."""

    def __init__(self, read: Callable[[Tensor], int]) -> None:
        super().__init__()
        self.read, self.layer, self.keep = read, nn.Linear(12, 5, bias=False), nn.Parameter(torch.ones(12))

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1) * self.keep
        for _ in range(1 if self.training else self.read(self.keep)):
            out: Tensor = self.layer(x)
        return out


@pytest.mark.parametrize(
    "read",
    [
        lambda keep: int(keep.sum()),
        lambda keep: len(keep[keep > 0]),
        lambda keep: len(keep.nonzero()),
        lambda keep: len(keep.masked_select(keep > 0)),
    ],
    ids=["item", "mask", "nonzero", "masked_select"],
)
def test_model_that_reads_values_has_its_own_weights(read: Callable[[Tensor], int]) -> None:
    assert measure_cost(lambda: Selective(read), (3, 2, 2), 2).macs == 12 * 12 * 5


def test_tied_parameters_are_counted_once() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(12, 12, bias=False), nn.Linear(12, 12, bias=False)
            self.second.weight = self.first.weight

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.second(self.first(x.flatten(1)))
            return out

    cost = measure_cost(Tied, (3, 2, 2), 2)
    assert (cost.params, cost.reached_params, cost.macs) == (144, 144, 288)
    assert cost.training_memory == 4 * (3 * 144 + 2 * 2 * 12)


def test_number_of_threads_is_restored() -> None:
    threads = torch.get_num_threads()
    seen: list[int] = []
    torch.set_num_threads(2)
    try:
        measure_cost(lambda: seen.append(torch.get_num_threads()) or plain(), (3, 4, 4), 2)  # type: ignore[func-returns-value]
        assert (set(seen), torch.get_num_threads()) == ({1}, 2)
    finally:
        torch.set_num_threads(threads)


def test_costliest_stages_come_first() -> None:
    stages = [nn.Conv2d(1, 4, 1), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 3, 1)]
    cost = measure_cost(lambda: nn.Sequential(*stages), (1, 5, 5), 2)
    assert cost.stages == (
        StageCost("1", 4 * 4 * 9 + 4, 25 * 4 * 4 * 9),
        StageCost("3", 4 * 4 + 4, 25 * 4 * 4),
        StageCost("4", 4 * 3 + 3, 25 * 4 * 3),
    )


def test_stages_of_a_wrapper_are_those_inside() -> None:
    inside = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1))
    cost = measure_cost(lambda: nn.Sequential(nn.Sequential(inside, nn.ReLU())), (3, 5, 5), 2)
    assert [stage.name for stage in cost.stages] == ["0.0.1", "0.0.0"]


def test_module_list_is_a_stage() -> None:
    class Listed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 4, 1)
            self.layers = nn.ModuleList([nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)])

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            for layer in self.layers:
                x = layer(x)
            return x

    cost = measure_cost(lambda: Listed(), (3, 5, 5), 2)
    assert cost.stages == (StageCost("layers", 40, 25 * 32), StageCost("stem", 16, 25 * 12))


def test_single_layer_has_no_stages() -> None:
    assert measure_cost(lambda: nn.Conv2d(3, 4, 1), (3, 5, 5), 2).stages == ()


def test_operators_that_fvcore_omits_are_named() -> None:
    cost = measure_cost(lambda: Attention(), (8, 4, 4), 2)
    projection, attention = 16 * 8 * 8, 2 * 16 * 16 * 8
    assert (cost.macs_fvcore, cost.macs_torch) == (projection, projection + attention)
    assert cost.disagreement == pytest.approx(0.8)
    assert (cost.omitted, cost.uncounted) == (("scaled_dot_product_attention x1",), ())


def test_operators_that_torch_omits_are_named() -> None:
    cost = measure_cost(lambda: nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)), (3, 5, 5), 2)
    assert cost.macs == cost.macs_fvcore
    assert cost.disagreement > MAC_COUNT_TOLERANCE
    assert (cost.omitted, cost.uncounted) == (("batch_norm",), ())


def test_equal_counts_omit_nothing() -> None:
    cost = measure_cost(lambda: nn.Conv2d(3, 4, 1), (3, 5, 5), 2)
    assert (cost.disagreement, cost.omitted, cost.uncounted) == (0.0, (), ())


@pytest.mark.parametrize(("fvcore", "torch_"), [(None, 5), (5, None), (None, None), (0, 0), (7, 7)])
def test_single_count_has_no_disagreement(fvcore: int | None, torch_: int | None) -> None:
    assert ModelCost(1, 1, macs_fvcore=fvcore, macs_torch=torch_).disagreement == 0.0


@pytest.mark.parametrize("training", [True, False])
def test_model_is_left_unchanged(training: bool) -> None:
    model = Small().train(training)
    model.frozen.train(not training)
    model(torch.randn(4, 3, 8, 8)).sum().backward()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    gradients = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
    flags = [module.training for module in model.modules()]
    measure_cost(lambda: model, (3, 8, 8), 2)
    torch.testing.assert_close(model.state_dict(), state, rtol=0, atol=0)
    torch.testing.assert_close([p.grad for p in model.parameters()], gradients, rtol=0, atol=0)
    assert [module.training for module in model.modules()] == flags
    assert not model.frozen.weight.requires_grad


@pytest.mark.parametrize(
    ("fvcore", "torch_", "expected"), [(10, 20, 20), (20, 10, 20), (None, 20, 20), (20, None, 20), (None, None, None)]
)
def test_larger_count_is_used(fvcore: int | None, torch_: int | None, expected: int | None) -> None:
    assert ModelCost(1, 1, macs_fvcore=fvcore, macs_torch=torch_).macs == expected


def test_model_that_detects_tracing_is_counted() -> None:
    cost = measure_cost(lambda: Shy(), (3, 2, 2), 2)
    assert (cost.macs_fvcore, cost.macs_torch, cost.macs) == (144, 432, 432)


@pytest.mark.usefixtures("_countable_attention")
def test_attention_is_counted() -> None:
    """Count a ViT: patch embedding, one block of width 32 over 16 patches and a class token, and classifier."""
    shape: dict[str, Any] = {
        "img_size": 8,
        "patch_size": 2,
        "embed_dim": 32,
        "depth": 1,
        "num_heads": 2,
        "num_classes": 10,
    }
    model = timm.create_model("vit_tiny_patch16_224", **shape)
    tokens, width = 17, 32
    attention = 2 * tokens * tokens * width
    layers = 16 * 12 * width + tokens * width * (3 * width + width + 2 * 4 * width) + width * 10
    cost = measure_cost(lambda: model, (3, 8, 8), 2)
    assert cost.macs_torch == attention + layers
    assert cost.macs_fvcore is not None
    assert attention + layers <= cost.macs_fvcore <= 1.1 * (attention + layers)  # fvcore also counts the norms


@pytest.mark.slow
@pytest.mark.parametrize("spec", ["resnet8", "resnet8+se", "resnet8+preact+gem", "resnet8+cbam+drop_path"])
def test_count_on_the_meta_device_is_the_same(spec: str) -> None:
    cost = measure_cost(lambda: build(parse(spec).variant(), 10), (3, 16, 16), 2)
    quick = count_on_meta(lambda: build(parse(spec).variant(), 10), (3, 16, 16))
    assert (quick.params, quick.trainable_params) == (cost.params, cost.trainable_params)
    assert (quick.macs_torch, quick.stages, quick.output_shape) == (cost.macs_torch, cost.stages, (1, 10))
    assert 0.9 * macs(cost) <= macs(quick) <= macs(cost)


def test_channels_and_sizes_affect_the_count() -> None:
    model = build(parse("resnet8").variant(), 10, in_chans=1)
    small, large = measure_cost(lambda: model, (1, 8, 8), 2), measure_cost(lambda: model, (1, 16, 16), 2)
    assert small.params == large.params == sum(p.numel() for p in model.parameters())
    assert macs(large) > 3.9 * macs(small)


class OtherInTraining(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = super().forward(x.flatten(1))
        return out[:, :2] if self.training else out


def test_other_shape_in_training_is_untrainable() -> None:
    cost = measure_cost(lambda: OtherInTraining(12, 5), (3, 2, 2), 4)
    assert cost.untrainable == "in training mode it returns shape (4, 2) for 4 images"


class Recurrent(nn.Module):
    """Model with two bidirectional recurrent layers, whose inputs are the channels of a pixel."""

    def __init__(self, layer: type[nn.LSTM | nn.GRU | nn.RNN]) -> None:
        super().__init__()
        self.rnn = layer(4, 5, num_layers=2, bidirectional=True, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.rnn(x.flatten(2))[0][:, -1]
        return out


@pytest.mark.parametrize(("layer", "gates"), [(nn.LSTM, 4), (nn.GRU, 3), (nn.RNN, 1)])
def test_recurrent_layers_are_counted(layer: type[nn.LSTM | nn.GRU | nn.RNN], gates: int) -> None:
    cost = measure_cost(lambda: Recurrent(layer), (3, 2, 2), 2)
    steps, directions = 3, 2
    macs = steps * directions * gates * 5 * ((4 + 5) + (2 * 5 + 5))
    assert (cost.macs, cost.macs_torch, cost.uncounted) == (macs, macs, ())
    assert count_on_meta(lambda: Recurrent(layer), (3, 2, 2)).macs == macs
    assert cost.omitted == (f"{layer.__name__.lower()}{'_tanh' if layer is nn.RNN else ''} x1",)  # by fvcore


def test_operators_that_both_omit_are_named() -> None:
    class Transformed(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = torch.fft.rfft(x).real
            return out

    cost = measure_cost(Transformed, (3, 2, 2), 2)
    assert cost.macs == 0
    assert (cost.omitted, cost.uncounted) == ((), ("fft_r2c x1",))


def test_dominant_layer_is_the_first_stage() -> None:
    model = nn.Sequential(nn.Conv2d(3, 64, 3), nn.Flatten(), nn.Linear(64 * 36, 1))
    assert measure_cost(lambda: model, (3, 8, 8), 2).stages[0].name == "0"


def plain() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 16, 5))


def with_attribute(value: object) -> nn.Sequential:
    model = plain()
    setattr(model, "attribute", value)  # noqa: B010  # mypy does not know the attribute
    return model


def with_history() -> nn.Sequential:
    model = plain()
    setattr(model, "scale", model.get_parameter("0.weight").sum())  # noqa: B010  # not a leaf of the graph
    return model


def reparametrized(function: Callable[..., nn.Module], *arguments: object) -> nn.Sequential:
    model = plain()
    function(model[0], *arguments)
    return model


@pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated:FutureWarning")
@pytest.mark.parametrize(
    ("builder", "extra_params"),
    [
        (lambda: reparametrized(nn.utils.weight_norm), 16),
        (lambda: reparametrized(nn.utils.parametrizations.weight_norm), 16),
        (lambda: reparametrized(nn.utils.spectral_norm), 0),
        (lambda: reparametrized(nn.utils.parametrizations.spectral_norm), 0),
        (lambda: reparametrized(prune.l1_unstructured, "weight", 0.5), 0),
        (with_history, 0),
        (lambda: with_attribute(threading.Lock()), 0),
        (lambda: with_attribute(torch.Generator()), 0),
        (lambda: with_attribute(iter(lambda: 0, 1) for _ in "a"), 0),
    ],
    ids=["weight", "weights", "spectral", "spectrals", "pruned", "history", "lock", "random", "generator"],
)
def test_models_that_cannot_be_copied_are_counted(builder: Callable[[], nn.Module], extra_params: int) -> None:
    cost, expected = measure_cost(builder, (3, 4, 4), 64), measure_cost(plain, (3, 4, 4), 64)
    assert (cost.params, cost.reached_params) == (expected.params + extra_params,) * 2
    assert (cost.macs, cost.activations) == (expected.macs, expected.activations)
    assert (cost.untrainable, cost.dead_params, cost.output_shape) == ("", (), (1, 5))
    assert cost.training_memory is not None
    assert expected.training_memory is not None
    assert 0 <= cost.training_memory - expected.training_memory < 8192  # independent of the batch size


@pytest.mark.parametrize("affine", [True, False])
def test_lazy_norms_are_counted(affine: bool) -> None:
    def builder() -> nn.Module:
        norm = nn.LazyBatchNorm2d(affine=affine)
        return nn.Sequential(nn.LazyConv2d(4, 3), norm, nn.Flatten(), nn.LazyLinear(5))

    cost = measure_cost(builder, (3, 4, 4), 64)
    assert (cost.params, cost.reached_params) == ((4 * 3 * 9 + 4) + 8 * affine + (16 * 5 + 5),) * 2
    assert cost.training_memory is not None


class PartlyCompiled(nn.Module):
    """Model with compiled layers, some of them in place, and a compiled function."""

    def __init__(self) -> None:
        super().__init__()
        self.stem: Any = torch.compile(plain()[:2])
        self.rest = plain()[2:]
        self.rest.compile()

    def forward(self, x: Tensor) -> Tensor:
        return flattened(self.rest(self.stem(x)))


@torch.compile
def flattened(x: Tensor) -> Tensor:
    return x.flatten(1)


def compiled(model: nn.Module) -> nn.Module:
    wrapped: Any = torch.compile(model)
    assert isinstance(wrapped, nn.Module)
    return wrapped


@pytest.mark.parametrize("builder", [lambda: compiled(plain()), PartlyCompiled], ids=["whole", "parts"])
def test_compiled_models_cost_as_much_as_others(builder: Callable[[], nn.Module]) -> None:
    cost, expected = measure_cost(builder, (3, 4, 4), 64), measure_cost(plain, (3, 4, 4), 64)
    assert (cost.params, cost.macs) == (expected.params, expected.macs)
    assert cost.training_memory == expected.training_memory


def test_names_in_a_compiled_model_are_those_of_the_original() -> None:
    assert measure_cost(lambda: compiled(Small()), (3, 8, 8), 2) == measure_cost(Small, (3, 8, 8), 2)
