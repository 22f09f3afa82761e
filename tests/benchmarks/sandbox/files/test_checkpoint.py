"""Tests of finding the weights in checkpoints, and of telling buffers apart."""

from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from arch.errors import InputError
from benchmarks.sandbox.errors import FileRefused
from benchmarks.sandbox.files.checkpoint import find_state_dict
from benchmarks.sandbox.files.weights import WeightsFile, read_pickle, read_safetensors

PARAMS = 3 * 4 + 4 + 2 * 4  # excludes the norm's running statistics


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


STATE = net().state_dict()
PARALLEL = {f"module.{name}": tensor for name, tensor in STATE.items()}
OPTIMIZER = {"state": {0: {"momentum_buffer": torch.zeros(4, 3)}}, "param_groups": [{"lr": 0.1}]}


@pytest.mark.parametrize(
    "content",
    [
        {"net": STATE, "acc": 91.2, "epoch": 7},
        {"model_state_dict": STATE, "optimizer_state_dict": OPTIMIZER, "loss": torch.tensor(1.0)},
        {"state_dict": PARALLEL, "best_acc1": torch.tensor(71.0)},
        {"model": {"state_dict": STATE}},
        {"state_dict": STATE, "state_dict_ema": STATE},
        {"ema": STATE, "optimizer": OPTIMIZER},
        {"backbone_weights": STATE, "optimizer": OPTIMIZER},
        {"state_dict": {f"module._orig_mod.{name}": tensor for name, tensor in STATE.items()}},
        {f"_orig_mod.module.{name}": tensor for name, tensor in STATE.items()},
        {name.replace(".", "._orig_mod."): tensor for name, tensor in STATE.items()},
        {**STATE, **{f"model_ema.{name}": tensor for name, tensor in STATE.items()}},
        AveragedModel(net()).state_dict(),
    ],
)
def test_network_is_found(content: dict[str, Any]) -> None:
    found = find_state_dict("net.pth", content)
    assert {name: tensor.shape for name, tensor in found.items()} == {n: t.shape for n, t in STATE.items()}


def test_layer_with_ema_in_its_name_is_kept() -> None:
    state = {"schema.weight": torch.zeros(2, 2), "ema.weight": torch.zeros(3, 3)}
    assert set(find_state_dict("net.pth", state)) == set(state)


def test_several_networks_are_named() -> None:
    with pytest.raises(InputError, match="generator, discriminator"):
        find_state_dict("gan.pth", {"generator": STATE, "discriminator": STATE, "optimizer": OPTIMIZER})


def test_endless_checkpoint_has_no_tensors() -> None:
    content: dict[str, Any] = {}
    content["model"] = content
    with pytest.raises(InputError, match="no named tensors"):
        find_state_dict("net.pth", content)


def read(state: dict[str, Tensor], path: Path) -> WeightsFile:
    if path.suffix == ".safetensors":
        save_file(state, path)
        return read_safetensors(path)
    torch.save(state, path)
    weights = read_pickle(path, allow_code=False)
    assert isinstance(weights, WeightsFile)
    return weights


@pytest.mark.parametrize("name", ["net.pth", "net.safetensors"])
def test_buffers_are_not_counted(name: str, tmp_path: Path) -> None:
    buffers = {
        "attn.relative_position_index": torch.zeros(49, 49, dtype=torch.int64),
        "attn.used": torch.zeros(5, dtype=torch.bool),
        "attn_mask": torch.zeros(4, 49, 49),
    }
    weights = read({**STATE, **buffers}, tmp_path / name)
    assert weights.params == PARAMS
    assert "12,019 values in 6 buffers" in weights.notes[0]
    assert all(word in weights.notes[0] for word in ("integers", "attn_mask", "running_mean"))


@pytest.mark.parametrize("name", ["net.pth", "net.safetensors"])
def test_half_precision_weights_are_parameters(name: str, tmp_path: Path) -> None:
    weights = read({"weight": torch.zeros(3, dtype=torch.bfloat16), "bias": torch.zeros(2).half()}, tmp_path / name)
    assert (weights.params, weights.notes) == (5, ())


def test_classes_in_a_refused_checkpoint_are_named(tmp_path: Path) -> None:
    torch.save({"state_dict": STATE, "args": Namespace(lr=0.1)}, tmp_path / "net.pth")
    with pytest.raises(FileRefused, match=r"argparse\.Namespace.*--allow-code"):
        read_pickle(tmp_path / "net.pth", allow_code=False)
    weights = read_pickle(tmp_path / "net.pth", allow_code=True)
    assert isinstance(weights, WeightsFile)
    assert weights.params == PARAMS


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("protocol", [2, 4])
def test_plain_checkpoint_of_a_newer_protocol_is_not_said_to_contain_more(protocol: int, tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "net.pth", pickle_protocol=protocol)
    if protocol == 2:
        assert isinstance(read_pickle(tmp_path / "net.pth", allow_code=False), WeightsFile)
        return
    with pytest.raises(FileRefused, match="protocol 4") as error:
        read_pickle(tmp_path / "net.pth", allow_code=False)
    assert "more than tensors" not in str(error.value)
