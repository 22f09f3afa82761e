"""Decide from its spelling whether a MODEL argument is a spec, a timm name or a file."""

import os
from typing import Literal

from arch.bases import BASES
from arch.entries import NETWORKS
from arch.errors import InputError
from arch.plans import PLANS
from arch.spec import WORD

ModelKind = Literal["spec", "timm", "file"]

MODEL_FILE_SUFFIXES = (".py", ".safetensors", ".pt", ".pth", ".bin", ".onnx", ".pt2")


def kind_of(model: str) -> ModelKind:
    """Return the kind of a MODEL argument.

    A spec is recognized by its first word (a base, a plan or a plugin's network), a file by its suffix. Anything else
    is a timm name.

    Raises:
        InputError: If `model` is a path that exists but does not have the suffix of a model file.
    """
    word = WORD.match(model)
    name = word.group() if word is not None else ""
    if name in {*BASES, *PLANS, "baseline"} or name.partition("/")[0] in NETWORKS:
        return "spec"
    if split_file(model)[0].endswith(MODEL_FILE_SUFFIXES):
        return "file"
    if os.path.isfile(model) or (os.sep in model and not model.startswith("timm/") and os.path.exists(model)):
        raise InputError(f"{model} is not a model file: valid suffixes are {', '.join(MODEL_FILE_SUFFIXES)}")
    return "timm"


def split_file(model: str) -> tuple[str, str]:
    """Split `file.py:name` or `file.py:name(...)` into (file.py, the rest); the rest is empty if there is none."""
    stem, colon, name = model.partition(".py:")
    return (f"{stem}.py", name) if colon else (model, "")
