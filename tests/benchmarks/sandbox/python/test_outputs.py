import copy
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from arch.errors import InputError
from benchmarks.sandbox.python.outputs import LogitsHook, describe_output

LOGITS, OTHER, FEATURES = torch.zeros(2, 10), torch.ones(2, 10), torch.ones(2, 16)


class Pair(NamedTuple):
    features: Tensor
    logits: Tensor


@dataclass
class Result:
    loss: None
    scores: Tensor


class Net(nn.Module):
    def __init__(self, output: Any) -> None:
        super().__init__()
        self.output = output

    def forward(self, images: Tensor) -> Any:
        return self.output


def run(output: Any, chosen: str = "", images: int = 2) -> tuple[Any, str]:
    hook = LogitsHook(10, chosen)
    net = copy.deepcopy(hook.attach(Net(output))).eval()  # the hooks of copies share their notes
    return net(torch.zeros(images, 3, 8, 8)), "; ".join(hook.notes)


@pytest.mark.parametrize(
    ("output", "name"),
    [
        ((LOGITS, FEATURES), "0"),
        ((FEATURES, LOGITS), "1"),
        ([LOGITS, OTHER], "0"),
        ({"features": FEATURES, "aux": OTHER, "logits": LOGITS}, "logits"),
        (OrderedDict(out=LOGITS, aux=OTHER), "out"),
        (Pair(FEATURES, LOGITS), "logits"),
        (Result(None, LOGITS), "scores"),
        ((LOGITS, {"features": FEATURES}), "0"),
        ((FEATURES, [OTHER, {"pred": LOGITS}]), "1.1.pred"),
    ],
)
def test_logits_are_found_by_shape_and_name(output: Any, name: str) -> None:
    logits, notes = run(output)
    assert torch.equal(logits, LOGITS)
    assert f" {name} is taken as the logits" in notes


def test_tensor_is_unchanged() -> None:
    logits, notes = run(FEATURES)
    assert torch.equal(logits, FEATURES)
    assert notes == ""


@pytest.mark.parametrize(("chosen", "expected"), [("0", LOGITS), ("1", OTHER), ("2.a", FEATURES)])
def test_output_of_the_user_is_taken(chosen: str, expected: Tensor) -> None:
    assert torch.equal(run((LOGITS, OTHER, {"a": FEATURES}), chosen)[0], expected)


def test_unknown_output_is_invalid() -> None:
    with pytest.raises(InputError, match=r"--output 2: the model returns 0, 1$"):
        run((LOGITS, OTHER), "2")


def test_dropped_batch_dimension_is_restored() -> None:
    logits, notes = run(torch.zeros(10), images=1)
    assert logits.shape == (1, 10)
    assert "batch dimension" in notes


@pytest.mark.parametrize("output", [(), {"loss": 3}, None, "text"])
def test_output_without_tensors_is_unchanged(output: Any) -> None:
    assert run(output)[0] == output


def test_hook_is_attached_once() -> None:
    hook, net = LogitsHook(10), Net(LOGITS)
    hook.attach(hook.attach(net))
    assert len(net._forward_hooks) == 1


def test_output_is_described_by_its_shapes() -> None:
    assert describe_output(LOGITS) == "(2, 10)"
    assert describe_output((LOGITS, {"a": FEATURES})) == "a tuple (0 (2, 10), 1.a (2, 16))"
