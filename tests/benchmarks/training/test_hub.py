import logging
import socket
import time
import warnings
from pathlib import Path

import huggingface_hub
import pytest
import timm
import torch
from platformdirs import user_cache_path
from safetensors.torch import load_file
from torch import nn

from arch.errors import InputError
from benchmarks.training import hub
from benchmarks.training.hub import fetch_weights

MODEL = "test_resnet"
FULL_NAME = "test_resnet.r160_in1k"
REAL_CREATE_MODEL = timm.create_model


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return user_cache_path("timm-ablate") / "weights"


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Fake a Hub with random weights for all models, and return a list that records the requested names."""
    names = []

    def create_model(name: str, pretrained: bool = False) -> nn.Module:
        assert pretrained
        names.append(name)
        logging.getLogger("timm").warning("noise")
        warnings.warn("noise", stacklevel=1)
        return REAL_CREATE_MODEL(name.partition(".")[0])

    monkeypatch.setattr(timm, "create_model", create_model)
    monkeypatch.setattr(hub, "_hub_answers", lambda: True)
    return names


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown_host(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown_host)
    monkeypatch.setattr(socket, "create_connection", unknown_host)


def test_weights_are_downloaded_once_and_cached_with_their_tag(fetched: list[str], cache: Path) -> None:
    path = fetch_weights(MODEL)
    assert path == cache / f"{FULL_NAME}.safetensors"
    assert load_file(path).keys() == REAL_CREATE_MODEL(MODEL).state_dict().keys()
    assert fetch_weights(MODEL) == fetch_weights(FULL_NAME) == path
    assert fetched == [FULL_NAME]


def test_damaged_file_is_downloaded_again(fetched: list[str], cache: Path) -> None:
    path = fetch_weights(MODEL)
    content = path.read_bytes()
    path.write_bytes(content[:1000])
    assert len(fetch_weights(MODEL).read_bytes()) == len(content)
    assert fetched == [FULL_NAME, FULL_NAME]


def test_download_draws_no_random_numbers_and_prints_nothing(
    fetched: list[str], capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    state, level = torch.get_rng_state(), logging.root.manager.disable
    fetch_weights(MODEL)
    assert torch.equal(torch.get_rng_state(), state)
    assert (*capfd.readouterr(), caplog.text, logging.root.manager.disable) == ("", "", "", level)


@pytest.mark.usefixtures("no_network")
def test_without_a_network_the_download_fails_quickly(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    started = time.monotonic()
    with pytest.raises(InputError) as caught:
        fetch_weights(MODEL)
    assert time.monotonic() - started < 20  # the Hub client's own retries take 46 seconds
    for fact in (f"timm/{FULL_NAME}", "cannot be reached", "--pretrained FILE.safetensors"):
        assert fact in str(caught.value)
    assert "\n" not in str(caught.value)
    assert (*capfd.readouterr(), caplog.text) == ("", "", "")
    assert (huggingface_hub.constants.HF_HUB_OFFLINE, socket.getdefaulttimeout()) == (False, None)


def test_other_errors_are_one_line(fetched: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str, pretrained: bool) -> None:
        raise RuntimeError("403 Forbidden\nand much more")

    monkeypatch.setattr(timm, "create_model", fail)
    with pytest.raises(InputError, match=r"RuntimeError: 403 Forbidden.*--pretrained FILE") as caught:
        fetch_weights(MODEL)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet81", "unknown timm model 'resnet81': did you mean 'resnet18'"),
        ("../resnet18", "unknown timm model"),
        ("resnet18.a1_in2k", "unknown tag 'a1_in2k' of timm/resnet18's weights: did you mean 'a1_in1k'"),
        ("resnet18.", "unknown tag ''"),
        ("botnet50ts_256", "no weights for timm/botnet50ts_256.*--pretrained FILE"),
        ("inception_v3.gluon_in1k", "image normalization than timm/inception_v3"),
    ],
)
def test_unavailable_weights_are_refused(fetched: list[str], name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        fetch_weights(name)
    assert fetched == []
