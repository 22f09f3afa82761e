from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from benchmarks.studies.gpu_session.half_precision import write_half_precision

WEIGHTS: dict[str, Any] = {"weight": np.array([0.5, 2.0], np.float32), "count": np.array([3], np.int64)}


def write_weights(runs: Path) -> None:
    (runs / "weights" / "digits").mkdir(parents=True)
    save_file(WEIGHTS, runs / "weights" / "digits" / "a.safetensors", {"spec": "resnet8"})


def test_weights_are_copied_in_half_precision(tmp_path: Path) -> None:
    write_weights(tmp_path)
    write_half_precision(tmp_path, tmp_path / "results")
    copy = load_file(tmp_path / "results" / "weights_half" / "digits" / "a.safetensors")
    assert {name: (str(tensor.dtype), tensor.tolist()) for name, tensor in copy.items()} == {
        "weight": ("float16", [0.5, 2.0]),
        "count": ("int64", [3]),
    }


def test_interrupted_copy_is_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_weights(tmp_path)

    def interrupt(tensors: object, file: Path, metadata: object) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"half a file")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("safetensors.numpy.save_file", interrupt)
        with pytest.raises(KeyboardInterrupt):
            write_half_precision(tmp_path, tmp_path / "results")
    write_half_precision(tmp_path, tmp_path / "results")
    assert load_file(tmp_path / "results" / "weights_half" / "digits" / "a.safetensors")["count"].tolist() == [3]
