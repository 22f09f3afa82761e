"""What a MODEL argument is taken for, by its spelling alone. Knows no torch."""

import os
from typing import Literal

from arch.bases import BASES
from arch.errors import InputError
from arch.plans import PLANS
from arch.spec import WORD

ModelKind = Literal["spec", "timm", "file"]

SUFFIXES = (".py", ".safetensors", ".pt", ".pth", ".bin", ".onnx", ".pt2")


def kind_of(text: str) -> ModelKind:
    """A file by its suffix, one of our specs (its first word is one of our bases or plans), or else a timm name.

    Raises InputError for something that lies on the disk but is no model file.
    """
    if split_file(text)[0].endswith(SUFFIXES):
        return "file"
    word = WORD.match(text)
    if word is not None and word.group() in {*BASES, *PLANS, "baseline"}:
        return "spec"
    if os.path.isfile(text) or (os.sep in text and not text.startswith("timm/") and os.path.exists(text)):
        raise InputError(f"{text} is no model file: valid are {', '.join(SUFFIXES)}")
    return "timm"


def split_file(text: str) -> tuple[str, str]:
    """`file.py:name` as (file.py, name); the name is empty where there is none."""
    file, colon, name = text.rpartition(":")
    return (file, name) if colon and file.endswith(".py") else (text, "")
