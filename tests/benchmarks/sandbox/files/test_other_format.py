"""Tests of the messages about files that are not models."""

import io
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from gzip import compress
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save

from arch.errors import InputError
from benchmarks.sandbox.errors import FileRefused
from benchmarks.sandbox.files.archive import content_of
from benchmarks.sandbox.files.onnx_graph import read_onnx
from benchmarks.sandbox.files.weights import read_safetensors

LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 44812345\n"


def archive(*names: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        for name in names:
            file.writestr(name, "")
    return content.getvalue()


def tar() -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as file:
        file.addfile(tarfile.TarInfo("net.pth"))
    return content.getvalue()


def numpy_array() -> bytes:
    content = io.BytesIO()
    np.save(content, np.zeros(3))
    return content.getvalue()


def saved() -> bytes:
    content = io.BytesIO()
    torch.save({"weight": torch.zeros(3)}, content)
    return content.getvalue()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (LFS_POINTER, "net.pth is a Git LFS pointer: run git lfs pull"),
        (b"\n<!DOCTYPE html>\n<html>", "an HTML page, not a file that torch.save wrote"),
        (b'<?xml version="1.0"?><Error>', "an XML document"),
        (b"", "is empty"),
        (bytes(1000), "zero bytes"),
        (b"404: Not Found", "a text file ('404: Not Found'...)"),
        ("pesos de la red neuronal número 1".encode(), "a text file"),
        (archive("a.npy", "b.npy"), "numpy arrays"),
        (archive("config.json", "model.weights.h5"), "a Keras model"),
        (archive("word/document.xml"), "a zip archive of other files (word/document.xml...)"),
        (archive(), "an empty zip archive"),
        (saved()[:200], "a zip archive that is cut off"),
        (tar(), "a tar archive: extract it"),
        (compress(saved()), "compressed with gzip: decompress it"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "an HDF5 file"),
        (b"\x82\xa6kernel\xc4\x04\x00\x00\x00\x00", "a msgpack file"),
        (numpy_array(), "a numpy array"),
        (save({"weight": torch.zeros(3)}), "a safetensors file: give it the suffix .safetensors"),
        (b"\x08\x08\x12\x07pytorch", "an ONNX graph: give it the suffix .onnx"),
        (b"\xfe\x01\x02" * 100, "net.pth is not a file that torch.save wrote"),
    ],
)
def test_file_that_is_no_model_is_named(content: bytes, expected: str, tmp_path: Path) -> None:
    (tmp_path / "net.pth").write_bytes(content)
    with pytest.raises(InputError) as error:
        content_of(tmp_path / "net.pth")
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("protocol", range(6))
def test_pickle_of_another_program_is_refused_without_a_hint_to_run_it(protocol: int, tmp_path: Path) -> None:
    (tmp_path / "net.pth").write_bytes(pickle.dumps({"weights": [1.0]}, protocol))
    with pytest.raises(FileRefused, match=r"a pickle that torch\.save did not write") as error:
        content_of(tmp_path / "net.pth")
    assert "--allow-code" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "read"), [("net.safetensors", read_safetensors), ("net.onnx", lambda path: read_onnx(path, (1, 8, 8)))]
)
def test_other_readers_name_a_git_lfs_pointer(name: str, read: Callable[[Path], object], tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(LFS_POINTER)
    with pytest.raises(InputError, match="Git LFS pointer: run git lfs pull"):
        read(tmp_path / name)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("new_format", [False, True])
def test_file_of_torch_save_is_recognized(new_format: bool, protocol: int, tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    torch.save({"w": torch.zeros(3)}, path, pickle_protocol=protocol, _use_new_zipfile_serialization=new_format)
    assert content_of(path) == "pickle"
