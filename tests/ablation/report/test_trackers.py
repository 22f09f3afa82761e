import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from ablation.report import trackers
from ablation.report.trackers import TRACKERS, export, to_run
from arch.errors import InputError
from benchmarks.definition.benchmark import BENCHMARKS
from benchmarks.records.store import RunRecord

HOSTILE = "../../<script>alert(1)</script>/..\n\u202etxt.exe e\u0301\u0301 \x1b[31m %s ? # ' \" \ud800"

# What each library itself reads, as [{"id", "name", "benchmark", "config", "points": [step, column, figure]}]
READERS = {
    "tensorboard": """
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.metadata import parse_session_start_info_plugin_data as parse
for file in folder.rglob("events*"):
    events = EventAccumulator(str(file)).Reload()
    start = parse(events.summary_metadata["_hparams_/session_start_info"].plugin_data.content)
    config = {k: getattr(v, v.WhichOneof("kind")) for k, v in start.hparams.items()}
    points = [[e.step, tag, e.value] for tag in events.Tags()["scalars"] for e in events.Scalars(tag)]
    name = file.parent.name.partition(".")[0].replace("_seed_", " seed ")
    assert json.loads(events.Tensors("record")[0].tensor_proto.string_val[0])["run_id"] == start.group_name
    runs.append((start.group_name, name, file.parent.parent.name, config, points))
""",
    "wandb": """
from wandb.proto.wandb_internal_pb2 import Record
def records(file):  # LevelDB's log, after a header of 7 bytes
    content, at, whole = file.read_bytes(), 7, b""
    while at + 7 <= len(content):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        length, kind = int.from_bytes(content[at + 4 : at + 6], "little"), content[at + 6]
        whole, at = whole + content[at + 7 : at + 7 + length], at + 7 + length
        if kind in (1, 4):
            yield Record.FromString(whole)
            whole = b""
def items(updates):
    return {u.key or ".".join(u.nested_key): json.loads(u.value_json) for u in updates}
for file in folder.rglob("*.wandb"):
    config, points, summary = {}, [], {}
    for record in records(file):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            run = record.run
            config |= items(run.config.update)
        elif kind == "history":
            points += [[record.history.step.num, k, v] for k, v in items(record.history.item).items() if k != "epoch"]
        elif kind == "summary":
            summary |= items(record.summary.update)
    curve = {point[1] for point in points} | {"epoch"}  # the summary has its last figures, too
    points += [[points[-1][0], k, v] for k, v in summary.items() if k not in curve]
    points = [point for point in points if not point[1].startswith("_")]
    runs.append((run.run_id, run.display_name, run.project, {k: v for k, v in config.items() if k != "_wandb"}, points))
""",
    "mlflow": """
from mlflow import MlflowClient
client = MlflowClient(f"sqlite:///{folder}/mlflow/mlflow.db")
for experiment in client.search_experiments():
    for run in client.search_runs([experiment.experiment_id]):
        history = [m for name in run.data.metrics for m in client.get_metric_history(run.info.run_id, name)]
        points = [[m.step, m.key, m.value] for m in history]
        runs.append((run.data.tags["run_id"], run.info.run_name, experiment.name, run.data.params, points))
""",
    "trackio": """
import trackio
from trackio.sqlite_storage import SQLiteStorage
for file in folder.rglob("*.db"):
    for run in trackio.Api().runs(file.stem):
        config = {k: v for k, v in run.config.items() if not k.startswith("_")}
        logs = SQLiteStorage.get_logs(file.stem, run.name, run_id=run.id)
        points = [[log["step"], k, v] for log in logs for k, v in log.items() if k not in ("step", "timestamp")]
        runs.append((config["run_id"], run.name, file.stem, config, points))
""",
}
READER = """
import json, pathlib, sys
folder, runs = pathlib.Path(sys.argv[1]), []
{}
json.dump([dict(zip(("id", "name", "benchmark", "config", "points"), run)) for run in runs], sys.stdout)
"""


def installed(tracker: str) -> bool:
    library = find_spec(tracker)
    return library is not None and library.origin is not None


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.slow) if name == "mlflow" else name for name in TRACKERS])
def tracker(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if not installed(name):
        pytest.skip(f"{name} is not installed")
    return name


@pytest.fixture
def results(make_result: Callable[..., RunRecord]) -> list[RunRecord]:
    definition = BENCHMARKS["digits"].definition("f" * 16, "cpu")
    line = {"train_loss": 1.25, "train_top1": 33.3, "loss": 1.1, "top1": 45.6, "top5": 91.2, "train_seconds": 0.1}
    curve = [{"epoch": epoch, **line, "top1": 40.0 + epoch / 3} for epoch in range(1, 4)]
    first = make_result("baseline+se", 0, curve[-1]["top1"], definition=definition, curve=curve)
    return [first, replace(first, seed=1, hours=0.0371), make_result("baseline", benchmark_id="ba9876543210")]


def read(tracker: str, folder: Path) -> list[dict[str, Any]]:
    """In a process of its own, as the libraries warn, and read their settings once."""
    environment = {**os.environ, "TRACKIO_DIR": str(folder / "trackio"), "HOME": str(folder.parent)}
    program = [sys.executable, "-c", READER.format(READERS[tracker]), str(folder)]
    done = subprocess.run(program, env=environment, cwd=folder.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    runs: list[dict[str, Any]] = json.loads(done.stdout)
    return sorted(runs, key=lambda run: str(run["id"]))


def assert_same(tracker: str, runs: list[dict[str, Any]], results: list[RunRecord]) -> None:
    assert [run["id"] for run in runs] == sorted(result.run_id for result in results)
    for result in results:
        [run] = [run for run in runs if run["id"] == result.run_id]
        assert run["name"] == f"{result.spec} seed {result.seed}"
        assert run["benchmark"] == f"{result.benchmark}_{result.benchmark_id}"
        config = to_run(result).config
        assert run["config"] == ({k: str(v) for k, v in config.items()} if tracker == "mlflow" else config)
        curve = [(int(line["epoch"]), name, line[name]) for line in result.curve for name in trackers.COLUMNS]
        final = {"final/top1": result.top1, "final/top5": result.top5, "hours": result.hours}
        final["images_per_second"] = result.images_per_second
        wanted = sorted([*curve, *((len(result.curve), name, figure) for name, figure in final.items())])
        found = sorted(map(tuple, run["points"]))
        assert [point[:2] for point in found] == [point[:2] for point in wanted]
        tolerance = 1e-6 if tracker == "tensorboard" else 0.0  # its scalars have 32 bits
        assert [p[2] for p in found] == pytest.approx([p[2] for p in wanted], rel=tolerance, abs=0)


def test_a_tracker_has_the_figures_of_the_records_however_often_they_are_exported(
    tracker: str, results: list[RunRecord], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "out"
    look = export(tracker, results, folder)
    assert look.replace("TRACKIO_DIR=", "").startswith((tracker, str(folder)))
    assert str(folder) in look
    assert capfd.readouterr() == ("", "")
    assert_same(tracker, read(tracker, folder), results)
    changed = [replace(results[0], hours=0.5, top1=51.0), *results[1:]]
    assert export(tracker, changed, folder) == look
    assert_same(tracker, read(tracker, folder), changed)
    export(tracker, changed[:1], folder)  # what is not exported again stays
    assert_same(tracker, read(tracker, folder), changed)


def test_the_config_says_what_was_trained(results: list[RunRecord]) -> None:
    config = to_run(results[0]).config
    assert config["recipe.lr"] == 0.1
    assert config["data.source"] == "digits"
    assert config["data.fingerprint"] == "f" * 16
    assert config["versions.torch"] == "2.10.0"
    record = {k: getattr(results[0], k) for k in ("spec", "key", "seed", "benchmark_id", "params", "macs", "commit")}
    assert record.items() <= config.items()
    assert config["run_id"] == results[0].run_id


def test_hostile_names_stay_in_the_folder(
    tracker: str, results: list[RunRecord], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, folder = tmp_path / "home", tmp_path / "a folder" / "it's"
    home.mkdir()
    for variable in ("HOME", "TMPDIR", "XDG_CACHE_HOME"):
        monkeypatch.setenv(variable, str(home))
    monkeypatch.chdir(home)
    for variable in ("TRACKIO_DIR", "TRACKIO_SPACE_ID", "WANDB_DIR", "WANDB_RESUME", "MLFLOW_TRACKING_URI"):
        monkeypatch.setenv(variable, "elsewhere")
    definition = {
        "recipe": {HOSTILE: HOSTILE, "_": None, "x": [1]},
        "data": {},
        **{f"k{i}": "v" * i for i in (1, 9999)},
    }
    names: dict[str, Any] = dict.fromkeys(("key", "benchmark", "benchmark_id", "device", "commit", "finished"), HOSTILE)
    nan = [{**results[0].curve[0], "loss": float("nan")}]
    hostile = replace(results[0], spec=HOSTILE, definition=definition, versions={HOSTILE: HOSTILE}, curve=nan, **names)
    export(tracker, [hostile, replace(hostile, seed=1)], folder)
    assert len(read(tracker, folder)) == 2
    assert all((folder / tracker) in path.parents for path in tmp_path.rglob("*") if path.is_file())
    export(tracker, [hostile, replace(hostile, seed=1)], folder)
    assert len(read(tracker, folder)) == 2


def test_no_address_is_looked_up_nor_called(
    tracker: str, results: list[RunRecord], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    witness = tmp_path / "calls"
    (tmp_path / "sitecustomize.py").write_text(f"""
import sys
def watch(event, args):
    if event == "socket.getaddrinfo" or (event == "socket.connect" and isinstance(args[1], tuple)):
        open({str(witness)!r}, "a").write(f"{{event}} {{args}}\\n")
sys.addaudithook(watch)
import socket
try:
    socket.create_connection(("127.0.0.1", 1))  # seen, or the test sees nothing
except OSError:
    pass
""")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    export(tracker, results[:1], tmp_path / "out")
    assert all("'127.0.0.1', 1" in line for line in witness.read_text().splitlines())


def test_what_is_unknown_or_not_installed_is_said_in_a_line(
    results: list[RunRecord], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="unknown tracker 'wandbs': did you mean 'wandb'"):
        export("wandbs", results, tmp_path)
    left_behind = ModuleSpec("wandb", None, is_package=True)
    for found in (None, left_behind):
        monkeypatch.setattr(trackers, "find_spec", {"wandb": found}.get)
        with pytest.raises(InputError, match=r"^wandb is not installed: pip install 'timm-ablate\[wandb\]'$"):
            export("wandb", results, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_written_is_said_in_a_line(tracker: str, results: list[RunRecord], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"^cannot write to .*: Not a directory$"):
        export(tracker, results, tmp_path / "file")


def test_a_full_disk_is_said_in_a_line(tracker: str, results: list[RunRecord], small_disk: Path) -> None:
    (small_disk / "ballast").write_bytes(bytes(700_000))
    line = results[0].curve[0]
    long = replace(results[0], curve=[{**line, "epoch": epoch} for epoch in range(1, 5001)])
    with pytest.raises(InputError, match=rf"^{tracker} could not write to [^\n]*$"):
        export(tracker, [long], small_disk)


def test_the_module_imports_no_library() -> None:
    program = (
        f"import sys, ablation.report.trackers; raise SystemExit(any(n in sys.modules for n in {['torch', *TRACKERS]}))"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parents[3]).returncode == 0


def test_two_long_specs_that_begin_alike_have_two_names(make_result: Callable[..., RunRecord]) -> None:
    spec = "resnet8@teacher=(timm/tf_efficientnet_lite0/224@epochs=0@init=0123456789abcdef)@alpha=0."
    one, other = (to_run(replace(make_result(), spec=f"{spec}{digit}", key=f"k{digit}")) for digit in (3, 4))
    assert one.name != other.name
    assert one.spec != other.spec
    assert max(len(run.spec) for run in (one, other)) <= trackers.NAME_LIMIT


def test_a_tracker_is_told_of_the_epochs_and_images_that_there_were(make_result: Callable[..., RunRecord]) -> None:
    result = replace(make_result(), train_images=40, overrides={"teacher": "resnet20"})
    config = to_run(result).config
    assert (config["epochs"], config["train_images"], config["overrides.teacher"]) == (2, 40, "resnet20")
