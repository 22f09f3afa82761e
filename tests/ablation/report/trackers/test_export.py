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

from ablation.report.trackers import convert
from ablation.report.trackers import export as export_module
from ablation.report.trackers.convert import to_tracker_run
from ablation.report.trackers.export import export
from ablation.report.trackers.writers import WRITERS
from arch.errors import InputError
from benchmarks.definition.registry import BENCHMARKS
from benchmarks.records.store import RunRecord

HOSTILE = "../../<script>alert(1)</script>/..\n\u202etxt.exe e\u0301\u0301 \x1b[31m %s ? # ' \" \ud800"

# Code that reads exported runs with each tracker's library, as (id, name, benchmark, config, [(step, column, value)]).
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
def records(file):  # a LevelDB log after a header of 7 bytes
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
    curve = {point[1] for point in points} | {"epoch"}  # the summary also contains the last values of the curve
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


FAST_TRACKER = "tensorboard"  # the libraries of the other trackers take seconds to import


@pytest.fixture(
    params=[name if name == FAST_TRACKER else pytest.param(name, marks=pytest.mark.slow) for name in WRITERS]
)
def tracker(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if not installed(name):
        pytest.skip(f"{name} is not installed")
    return name


@pytest.fixture
def records(make_record: Callable[..., RunRecord]) -> list[RunRecord]:
    definition = BENCHMARKS["digits"].definition("f" * 16, "cpu")
    epoch = {"train_loss": 1.25, "train_top1": 33.3, "loss": 1.1, "top1": 45.6, "top5": 91.2, "train_seconds": 0.1}
    curve = [{"epoch": number, **epoch, "top1": 40.0 + number / 3} for number in range(1, 4)]
    first = make_record("baseline+se", 0, curve[-1]["top1"], definition=definition, curve=curve)
    return [first, replace(first, seed=1, hours=0.0371), make_record("baseline", benchmark_id="ba9876543210")]


@pytest.fixture
def network_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """Record the network calls of child processes. Each process first makes one, which proves that recording works."""
    log, folder = tmp_path / "calls", tmp_path / "site"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(f"""
import sys
def watch(event, args):
    if event == "socket.getaddrinfo" or (event == "socket.connect" and isinstance(args[1], tuple)):
        open({str(log)!r}, "a").write(f"{{event}} {{args}}\\n")
sys.addaudithook(watch)
import socket
try:
    socket.create_connection(("127.0.0.1", 1))
except OSError:
    pass
""")
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return lambda: log.read_text().splitlines()


def read(tracker: str, folder: Path) -> list[dict[str, Any]]:
    """Read runs in a new process, because the libraries print warnings and read their settings only once."""
    environment = {**os.environ, "TRACKIO_DIR": str(folder / "trackio"), "HOME": str(folder.parent)}
    environment.pop("PYTHONPATH", None)
    program = [sys.executable, "-c", READER.format(READERS[tracker]), str(folder)]
    process = subprocess.run(program, env=environment, cwd=folder.parent, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    runs: list[dict[str, Any]] = json.loads(process.stdout)
    return sorted(runs, key=lambda run: str(run["id"]))


def assert_runs_equal_records(tracker: str, runs: list[dict[str, Any]], records: list[RunRecord]) -> None:
    assert [run["id"] for run in runs] == sorted(record.run_id for record in records)
    for record in records:
        [run] = [run for run in runs if run["id"] == record.run_id]
        assert run["name"] == f"{record.spec} seed {record.seed}"
        assert run["benchmark"] == f"{record.benchmark}_{record.benchmark_id}"
        config = to_tracker_run(record).config
        assert run["config"] == ({k: str(v) for k, v in config.items()} if tracker == "mlflow" else config)
        curve = [(int(epoch["epoch"]), name, epoch[name]) for epoch in record.curve for name in convert.CURVE_COLUMNS]
        final = {"final/top1": record.top1, "final/top5": record.top5, "hours": record.hours}
        final["images_per_second"] = record.images_per_second
        expected = sorted([*curve, *((len(record.curve), name, value) for name, value in final.items())])
        points = sorted(map(tuple, run["points"]))
        assert [point[:2] for point in points] == [point[:2] for point in expected]
        tolerance = 1e-6 if tracker == "tensorboard" else 0.0  # TensorBoard stores scalars in 32 bits
        assert [p[2] for p in points] == pytest.approx([p[2] for p in expected], rel=tolerance, abs=0)


@pytest.mark.slow
def test_exported_runs_equal_the_records_and_are_replaced_offline(
    tracker: str,
    records: list[RunRecord],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    network_calls: Callable[[], list[str]],
) -> None:
    folder = tmp_path / "out"
    command = export(tracker, records, folder)
    assert command.replace("TRACKIO_DIR=", "").startswith((tracker, str(folder)))
    assert str(folder) in command
    assert capfd.readouterr() == ("", "")
    changed = [replace(records[0], hours=0.5, top1=51.0), *records[1:]]
    assert export(tracker, changed, folder) == command
    export(tracker, changed[:1], folder)  # does not delete the other runs
    assert all("'127.0.0.1', 1" in line for line in network_calls())
    assert_runs_equal_records(tracker, read(tracker, folder), changed)


def test_config_contains_what_was_trained(records: list[RunRecord]) -> None:
    config = to_tracker_run(records[0]).config
    assert config["recipe.lr"] == BENCHMARKS["digits"].recipe.lr
    assert config["data.source"] == "digits"
    assert config["data.fingerprint"] == "f" * 16
    assert config["versions.torch"] == "2.10.0"
    fields = ("spec", "key", "seed", "benchmark_id", "params", "macs", "commit")
    assert {name: getattr(records[0], name) for name in fields}.items() <= config.items()
    assert config["run_id"] == records[0].run_id


@pytest.mark.slow
def test_hostile_names_stay_in_the_folder(
    tracker: str, records: list[RunRecord], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
    nan = [{**records[0].curve[0], "loss": float("nan")}]
    hostile = replace(records[0], spec=HOSTILE, definition=definition, versions={HOSTILE: HOSTILE}, curve=nan, **names)
    for _ in range(2):
        export(tracker, [hostile, replace(hostile, seed=1)], folder)
    assert len(read(tracker, folder)) == 2
    assert all((folder / tracker) in path.parents for path in tmp_path.rglob("*") if path.is_file())


def test_unknown_and_missing_trackers_are_refused(
    records: list[RunRecord], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="unknown tracker 'wandbs': did you mean 'wandb'"):
        export("wandbs", records, tmp_path)
    left_behind = ModuleSpec("wandb", None, is_package=True)
    for spec in (None, left_behind):
        monkeypatch.setattr(export_module, "find_spec", {"wandb": spec}.get)
        with pytest.raises(InputError, match=r"^wandb is not installed: pip install 'timm-ablate\[wandb\]'$"):
            export("wandb", records, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_unwritable_folder_is_one_line(tracker: str, records: list[RunRecord], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"^cannot write to .*: Not a directory$"):
        export(tracker, records, tmp_path / "file")


@pytest.mark.slow
def test_full_disk_is_one_line(tracker: str, records: list[RunRecord], small_disk: Path) -> None:
    (small_disk / "ballast").write_bytes(bytes(700_000))
    line = records[0].curve[0]
    long = replace(records[0], curve=[{**line, "epoch": epoch} for epoch in range(1, 5001)])
    with pytest.raises(InputError, match=rf"^{tracker} could not write to [^\n]*$"):
        export(tracker, [long], small_disk)


def test_module_imports_no_tracker() -> None:
    imports = "import sys, ablation.report.trackers.live_tracking"
    program = f"{imports}; raise SystemExit(any(n in sys.modules for n in {['torch', *WRITERS]}))"
    assert subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parents[4]).returncode == 0


def test_long_specs_with_the_same_beginning_have_different_names(make_record: Callable[..., RunRecord]) -> None:
    spec = "resnet8@teacher=(timm/tf_efficientnet_lite0/224@epochs=0@init=0123456789abcdef)@alpha=0."
    first, second = (to_tracker_run(replace(make_record(), spec=f"{spec}{digit}", key=f"k{digit}")) for digit in (3, 4))
    assert first.name != second.name
    assert first.spec != second.spec
    assert max(len(run.spec) for run in (first, second)) <= convert.MAX_SPEC_CHARACTERS


def test_config_contains_the_trained_epochs_and_images(make_record: Callable[..., RunRecord]) -> None:
    record = replace(make_record(), train_images=40, overrides={"teacher": "resnet20"})
    config = to_tracker_run(record).config
    assert (config["epochs"], config["train_images"], config["overrides.teacher"]) == (2, 40, "resnet20")
