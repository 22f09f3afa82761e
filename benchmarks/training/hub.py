"""ImageNet weights of timm's models, from timm's hub once and from then on from a file here."""

import logging
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from platformdirs import user_cache_path

from arch.errors import InputError, unknown
from benchmarks.records.weights_file import check_weights

if TYPE_CHECKING:
    from torch import Tensor

ANSWER_SECONDS = 5.0  # that the hub has for its first answer
SILENCE_SECONDS = 20.0  # of a server of weights that are not on the hub
INSTEAD = "a local file can be given instead: --pretrained FILE.safetensors"


def fetch_weights(name: str) -> Path:
    """The safetensors file with a timm model's published weights, fetched where this computer has none yet.

    name: as timm.create_model takes it, with or without a tag of its weights, such as resnet18.a1_in1k; without, the
    tag that this version of timm takes. timm itself reads what it fetches: safetensors where the hub has it, else a
    pickle with weights_only. Raises InputError in one line, within seconds where there is no network; OSError where
    the file cannot be written.
    """
    full = _full_name(name)
    path = user_cache_path("timm-ablate") / "weights" / f"{full}.safetensors"
    if path.exists():
        try:
            check_weights(path)
        except InputError:  # damaged: fetched anew
            pass
        else:
            return path
    from benchmarks.training.checkpoint import write_tensors  # torch

    tensors = {key: tensor.clone() for key, tensor in _fetch(full).items()}  # safetensors refuses shared memory
    write_tensors(path, tensors, {"timm": full})
    return path


def _full_name(name: str) -> str:
    """The model's name with its tag. Raises InputError where timm has no such weights."""
    from timm import is_model, list_models, list_pretrained
    from timm.models import get_pretrained_cfg

    architecture, dot, tag = name.partition(".")
    if not is_model(architecture):
        raise unknown("model", architecture, list_models(), " of timm")
    published = list_pretrained(f"{architecture}.*")
    if not published:
        raise InputError(f"timm has no weights of timm/{architecture}: {INSTEAD}")
    if dot and name not in published:
        raise unknown("tag", tag, (full.partition(".")[2] for full in published), f" of timm/{architecture}'s weights")
    chosen, usual = get_pretrained_cfg(name), get_pretrained_cfg(architecture)
    if chosen is None or usual is None or not chosen.has_weights:
        raise InputError(f"timm has no weights of timm/{name}: these it has: {', '.join(published)}")
    if (chosen.mean, chosen.std) != (usual.mean, usual.std):  # a TimmNet has its architecture's
        raise InputError(f"timm/{name} wants images normalized otherwise than timm/{architecture}: choose another tag")
    return f"{architecture}.{chosen.tag}" if chosen.tag else architecture


def _fetch(full: str) -> dict[str, "Tensor"]:
    import torch
    from timm import create_model

    reached = True
    try:
        with _quiet(), torch.random.fork_rng(devices=[]):  # it draws weights before it loads them
            reached = _hub_answers()
            with _offline(not reached):
                return dict(create_model(full, pretrained=True).state_dict())
    except Exception as error:  # every client of the web has exceptions of its own
        first = (str(error).strip().splitlines() or [""])[0][:200]
        why = f"{type(error).__name__}: {first}" if reached else "timm's hub cannot be reached"
        raise InputError(f"no weights of timm/{full}, {why}: {INSTEAD}") from error


def _hub_answers() -> bool:
    """One question without the client's retries, which take 46 seconds where there is no network."""
    from huggingface_hub import constants, get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=ANSWER_SECONDS)
    except Exception:
        return False
    return True


@contextmanager
def _offline(offline: bool) -> Iterator[None]:
    """Lets the hub's client look only into its own cache, where somebody may have fetched the weights before."""
    from huggingface_hub import constants

    before, seconds = constants.HF_HUB_OFFLINE, socket.getdefaulttimeout()
    constants.HF_HUB_OFFLINE = before or offline
    socket.setdefaulttimeout(SILENCE_SECONDS)
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
        socket.setdefaulttimeout(seconds)


@contextmanager
def _quiet() -> Iterator[None]:
    """Holds back the warnings, log lines and bars of timm and the hub's client; what fails is told once, by us."""
    hub: Any = import_module("huggingface_hub.utils")  # its names are not declared
    level, bars = logging.root.manager.disable, not hub.are_progress_bars_disabled()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        hub.disable_progress_bars()
        try:
            yield
        finally:
            logging.disable(level)
            if bars:
                hub.enable_progress_bars()
