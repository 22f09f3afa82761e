import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from benchmarks.records.paths import checkpoint_folder
from benchmarks.records.store import RecordStore, RunRecord
from benchmarks.records.unfinished import unfinished_runs

RUN_ID = "aaaa-1111-41a6f42a707c-seed3"


def write_checkpoint(out: Path, run_id: str, number: int, header: object) -> Path:
    file = checkpoint_folder(out, run_id) / f"{number:09}.safetensors"
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file({"weight": np.zeros(3, np.float32)}, file, {"header": json.dumps(header)})
    return file


def test_run_with_a_checkpoint_is_described_by_its_newest_intact_one(tmp_path: Path) -> None:
    identity = {"spec": "resnet8+se", "benchmark": "digits"}
    write_checkpoint(tmp_path, RUN_ID, 10, {"epoch": 1, "identity": identity})
    write_checkpoint(tmp_path, RUN_ID, 20, {"epoch": 2, "identity": identity})
    write_checkpoint(tmp_path, RUN_ID, 30, {"epoch": 3, "identity": identity}).write_bytes(b"damaged")
    [run] = unfinished_runs(tmp_path)
    assert (run.spec, run.benchmark, run.epochs) == ("resnet8+se", "digits", 2)
    assert (run.key, run.benchmark_id, run.seed) == ("aaaa-1111", "41a6f42a707c", 3)


def test_folder_without_a_readable_checkpoint_is_listed(tmp_path: Path) -> None:
    for number, content in enumerate([b"", b"\xff" * 100, b"\x02" + bytes(7) + b"[]"]):
        (file := tmp_path / "checkpoints" / RUN_ID / f"{number}.safetensors").parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    (tmp_path / "checkpoints" / "something else").mkdir()
    runs = {run.run_id: run for run in unfinished_runs(tmp_path)}
    assert (runs[RUN_ID].epochs, runs[RUN_ID].spec) == (None, "")
    assert (runs["something else"].seed, runs["something else"].benchmark_id) == (-1, "")


def test_recorded_run_is_finished_even_if_its_checkpoint_is_left(
    tmp_path: Path, make_record: Callable[..., RunRecord]
) -> None:
    store, record = RecordStore(tmp_path), make_record()
    store.create()
    write_checkpoint(tmp_path, record.run_id, 1, {"epoch": 1})
    assert [run.run_id for run in unfinished_runs(tmp_path)] == [record.run_id]
    store.append(record)
    assert unfinished_runs(tmp_path) == []
