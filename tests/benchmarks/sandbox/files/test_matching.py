"""Tests of comparing a weights file with a network."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from arch.errors import InputError
from benchmarks.sandbox.files.matching import check_weights, tensor_shapes

INPUT_SHAPE = (3, 8, 8)


def net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.LazyLinear(5))


STATE = {
    "0.weight": torch.zeros(4, 3, 3, 3),
    **{name: torch.zeros(4) for name in ("0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var")},
    "3.weight": torch.zeros(5, 144),
    "3.bias": torch.zeros(5),
}  # without num_batches_tracked, as torch before 0.4.1 saved it


def match(state: dict[str, Tensor], folder: Path, prefix: str = "") -> str:
    save_file(state, folder / "net.safetensors")
    shapes = {prefix + name: shape for name, shape in tensor_shapes(net, INPUT_SHAPE).items()}
    return check_weights(folder / "net.safetensors", shapes, allow_code=False)


@pytest.mark.parametrize(("prefix", "own_prefix"), [("", ""), ("module.", ""), ("model.", ""), ("", "model.")])
def test_weights_match_with_the_prefix_of_a_wrapper(prefix: str, own_prefix: str, tmp_path: Path) -> None:
    state = {prefix + name: tensor for name, tensor in STATE.items()}
    assert match(state, tmp_path, own_prefix) == "all 8 tensors of net.safetensors match the model"


def test_mismatches_are_listed_in_one_line(tmp_path: Path) -> None:
    state = {**STATE, "3.weight": torch.zeros(10, 144), **{f"4.{name}": torch.zeros(1) for name in "abcd"}}
    del state["3.bias"]
    with pytest.raises(InputError) as error:
        match(state, tmp_path)
    message = str(error.value)
    assert "1 missing (3.bias)" in message
    assert "4 unexpected (4.a, 4.b, 4.c, ...)" in message
    assert "1 of another shape (3.weight is (10, 144) in the file and (5, 144) in the model)" in message
    assert "\n" not in message


def test_program_is_no_weights_file(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(nn.Linear(1, 1)), tmp_path / "net.pt")
    with pytest.raises(InputError, match="a program, not a weights file"):
        check_weights(tmp_path / "net.pt", {}, allow_code=False)
