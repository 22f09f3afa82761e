"""Decide from its spelling whether a MODEL argument is a spec, a timm name or a file."""

import os
import re
from pathlib import Path
from typing import Literal

from arch.bases import find_base
from arch.entries import NETWORKS
from arch.errors import InputError
from arch.plans import PLANS
from arch.spec import WORD

ModelKind = Literal["spec", "timm", "file"]

CHECKPOINT_SUFFIXES = (".pt", ".pth", ".th", ".ckpt", ".t7", ".tar", ".bin")  # what torch.save writes
NOTEBOOK_SUFFIX = ".ipynb"
PYTHON_SUFFIXES = (".py", NOTEBOOK_SUFFIX)  # files of Python code, in which a NAME selects the model
MODEL_FILE_SUFFIXES = (*PYTHON_SUFFIXES, ".safetensors", *CHECKPOINT_SUFFIXES, ".onnx", ".pt2")
PYTHON_FILE_AND_NAME = re.compile(rf"(.*?(?:{'|'.join(map(re.escape, PYTHON_SUFFIXES))})):(.*)", re.DOTALL)
OTHER_FORMATS = {  # formats of other frameworks, by suffix
    ".msgpack": "a msgpack file (Flax)",
    ".h5": "an HDF5 file (Keras)",
    ".keras": "a Keras model",
    ".pb": "a TensorFlow graph",
    ".tflite": "a TensorFlow Lite model",
    ".npz": "an archive of numpy arrays",
    ".gguf": "a GGUF file (llama.cpp)",
    ".mlmodel": "a Core ML model",
}


def kind_of(model: str) -> ModelKind:
    """Return the kind of a MODEL argument.

    A spec is recognized by its first word (a base, a plan or a plugin's network), a file by its suffix; a file that
    exists is a file even if its name starts like a spec (resnet18.pth). Anything else is a timm name.

    Raises:
        InputError: If `model` is a path that exists but does not have the suffix of a model file.
    """
    file = split_file(model)[0]
    is_file = file.endswith(MODEL_FILE_SUFFIXES)
    if is_file and os.path.isfile(file):
        return "file"
    word = WORD.match(model)
    name = word.group() if word is not None else ""
    if find_base(name) is not None or name in {*PLANS, "baseline"} or name.partition("/")[0] in NETWORKS:
        return "spec"
    if is_file:
        return "file"
    if os.path.isfile(model) or (os.sep in model and not model.startswith("timm/") and os.path.exists(model)):
        what = OTHER_FORMATS.get(os.path.splitext(model)[1].lower(), "")
        found = f"{model} is {what}, not a model file of torch" if what else f"{model} is not a model file"
        raise InputError(f"{found}: valid suffixes are {', '.join(MODEL_FILE_SUFFIXES)}")
    return "timm"


def split_file(model: str) -> tuple[str, str]:
    """Split `file.py:name` or `file.py:name(...)` into (file.py, the rest); the rest is empty if there is none."""
    match = PYTHON_FILE_AND_NAME.fullmatch(model)
    return (match[1], match[2]) if match else (model, "")


def is_python(file: str | Path) -> bool:
    """Return whether a file is a Python file or a notebook."""
    return Path(file).suffix in PYTHON_SUFFIXES
