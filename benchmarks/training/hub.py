"""ImageNet weights of timm's models, downloaded from the Hugging Face Hub once and then read from a local cache."""

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

HUB_TIMEOUT_SECONDS = 5.0  # until the Hub's first response
SOCKET_TIMEOUT_SECONDS = 20.0  # for servers outside the Hub
MAX_REASON_LENGTH = 200  # characters of another library's error message
USE_LOCAL_FILE = "use a local file instead: --pretrained FILE.safetensors"


def fetch_weights(name: str) -> Path:
    """Return a safetensors file with the published weights of a timm model, downloading it if it is not cached.

    timm reads the downloaded file: safetensors if the Hub has it, otherwise a pickle, with `weights_only`.

    Args:
        name: As for `timm.create_model`, with or without the tag of the weights, such as resnet18.a1_in1k. Without a
            tag, it is the default of the installed timm.

    Raises:
        InputError: If there are no such weights, or the download failed. Without a network this takes only seconds.
        OSError: If the file cannot be written.
    """
    full_name = _full_name(name)
    path = user_cache_path("timm-ablate") / "weights" / f"{full_name}.safetensors"
    if path.exists():
        try:
            check_weights(path)
        except InputError:  # a damaged file is downloaded again
            pass
        else:
            return path
    from benchmarks.training.tensor_file import write_tensors  # imports torch

    write_tensors(path, _download(full_name), {"timm": full_name})
    return path


def _full_name(name: str) -> str:
    """Return the model's name with its tag. Raises InputError if timm has no such weights."""
    from timm import is_model, list_models, list_pretrained
    from timm.models import get_pretrained_cfg

    architecture, dot, tag = name.partition(".")
    if not is_model(architecture):
        raise unknown("timm model", architecture, list_models())
    published = list_pretrained(f"{architecture}.*")
    if not published:
        raise InputError(f"timm has no weights for timm/{architecture}; {USE_LOCAL_FILE}")
    if dot:
        check_tag(architecture, tag)
    chosen, default = get_pretrained_cfg(name), get_pretrained_cfg(architecture)
    if chosen is None or default is None or not chosen.has_weights:
        raise InputError(f"timm has no weights for timm/{name}; available: {', '.join(published)}")
    if (chosen.mean, chosen.std) != (default.mean, default.std):  # a TimmNet normalizes as the default weights require
        raise InputError(
            f"timm/{name} needs a different image normalization than timm/{architecture}; choose another tag"
        )
    return f"{architecture}.{chosen.tag}" if chosen.tag else architecture


def check_tag(architecture: str, tag: str) -> None:
    """Raise InputError if timm has no weights with this tag for an architecture. The message names the closest tag."""
    from timm import list_pretrained

    tags = [name.partition(".")[2] for name in list_pretrained(f"{architecture}.*")]
    if tag not in tags:
        raise unknown("tag", tag, tags, f" of timm/{architecture}'s weights")


def _download(full_name: str) -> dict[str, "Tensor"]:
    import torch
    from timm import create_model

    reachable = True
    try:
        with _quiet(), torch.random.fork_rng(devices=[]):  # timm initializes weights randomly before it loads them
            reachable = _hub_answers()
            with _offline(not reachable):
                return dict(create_model(full_name, pretrained=True).state_dict())
    except Exception as error:  # each HTTP client raises its own exceptions
        first_line = (str(error).strip().splitlines() or [""])[0][:MAX_REASON_LENGTH]
        reason = f"{type(error).__name__}: {first_line}" if reachable else "the Hugging Face Hub cannot be reached"
        raise InputError(f"cannot download weights for timm/{full_name} ({reason}); {USE_LOCAL_FILE}") from error


def _hub_answers() -> bool:
    """Send one request to the Hub without the client's retries, which take 46 seconds if there is no network."""
    from huggingface_hub import constants, get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=HUB_TIMEOUT_SECONDS)
    except Exception:
        return False
    return True


@contextmanager
def _offline(offline: bool) -> Iterator[None]:
    """Restrict the Hub's client to its own cache, which may contain the weights from an earlier download."""
    from huggingface_hub import constants

    was_offline, timeout = constants.HF_HUB_OFFLINE, socket.getdefaulttimeout()
    constants.HF_HUB_OFFLINE = was_offline or offline
    socket.setdefaulttimeout(SOCKET_TIMEOUT_SECONDS)
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = was_offline
        socket.setdefaulttimeout(timeout)


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress warnings, log lines and progress bars of timm and the Hub's client; failures raise one InputError."""
    hub: Any = import_module("huggingface_hub.utils")  # its functions have no type annotations
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
