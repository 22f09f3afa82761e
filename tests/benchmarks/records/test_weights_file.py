import pickle
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from arch.errors import InputError
from benchmarks.records.weights_file import check_weights, digest_of


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Return the bytes of a complete safetensors file."""
    path = tmp_path / "whole.safetensors"
    save_file({"weight": torch.zeros(1000, 10)}, path)
    return path


def test_digest_is_the_hash_of_the_content(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert digest_of(tmp_path / "a") == "ba7816bf8f01cfea"  # the SHA-256 test vector
    with pytest.raises(InputError, match="there is no file"):
        digest_of(tmp_path / "b")


def test_check_does_not_import_torch(weights: Path, python: Callable[..., subprocess.Popen[str]]) -> None:
    code = (
        "import sys; from pathlib import Path; from benchmarks.records.weights_file import check_weights, digest_of;"
        "path = Path(sys.argv[1]); check_weights(path); digest_of(path); print('torch' in sys.modules)"
    )
    assert python(code, weights).communicate()[0] == "False\n"


def test_complete_file_is_valid_under_any_name(weights: Path, tmp_path: Path) -> None:
    check_weights(weights)
    (tmp_path / "w.pth").write_bytes(weights.read_bytes())
    check_weights(tmp_path / "w.pth")


@pytest.mark.parametrize("old", [False, True])
def test_pickle_is_rejected_without_loading_it(tmp_path: Path, old: bool) -> None:
    marker, path = tmp_path / "ran", tmp_path / "w.safetensors"

    class Bomb:
        def __reduce__(self) -> Any:
            return (Path.touch, (marker,))

    torch.save({"weight": Bomb()}, path, _use_new_zipfile_serialization=not old)
    assert zipfile.is_zipfile(path) is not old
    with pytest.raises(InputError, match="pickle, which can run arbitrary code"):
        check_weights(path)
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(InputError, match="pickle"):
        check_weights(path)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"abc", "not a safetensors file"),
        (b"<html>" * 99, "not a safetensors file"),
        (b"\2\0\0\0\0\0\0\0{}", "contains no weights"),
        (b"\xff\0\0\0\0\0\0\0{}", "truncated or damaged"),
    ],
)
def test_other_files_are_rejected(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        check_weights(path)


def test_truncated_file_is_rejected(weights: Path, tmp_path: Path) -> None:
    content = weights.read_bytes()
    for length in (len(content) - 1, 5000, 12):
        (tmp_path / "w").write_bytes(content[:length])
        with pytest.raises(InputError, match="truncated or damaged"):
            check_weights(tmp_path / "w")


def test_missing_and_special_files_are_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="there is no file"):
        check_weights(tmp_path / "none")
    with pytest.raises(InputError, match="is a folder"):
        check_weights(tmp_path)
    with pytest.raises(InputError, match="is not a file"):
        check_weights(Path("/dev/null"))
    with pytest.raises(InputError, match="cannot read"):
        check_weights(tmp_path / ("x" * 300))

    def denied(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "w").write_bytes(b"abc")
    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(InputError, match=r"cannot read .*: Permission denied"):
        check_weights(tmp_path / "w")
