"""Hands the records to an experiment tracker: offline, after the fact, and into one folder.

The libraries work in a child with an environment of its own: what they print, the files they leave in a home folder,
and settings that would send them to a server stay away from the command and from the user.
"""

import errno
import hashlib
import json
import os
import re
import shlex
import shutil
import site
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from arch.errors import InputError, unknown
from arch.text import printable
from benchmarks.records.store import RunRecord

COLUMNS = ("train_loss", "train_top1", "loss", "top1", "top5")  # of the curve; `epoch` is the step
NAME_LIMIT = 80  # characters of a spec in a name; wandb takes 128 in all
VALUE_LIMIT = 6000  # characters of a text; as many as mlflow takes
ROOM = 2**20  # bytes that must be left on the disk: wandb and trackio are silent where it was too full for them
KEPT = ("LANG", "LC_ALL", "LD_LIBRARY_PATH", "PATH", "PYTHONPATH", "SYSTEMROOT")  # of the environment, in the child
OFFLINE = {
    "DO_NOT_TRACK": "true",
    "HF_HUB_OFFLINE": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "TRACKIO_STORAGE_MODE": "sqlite",
    "WANDB_ERROR_REPORTING": "false",
    "WANDB_MODE": "offline",
    "WANDB_SILENT": "true",
}


@dataclass(frozen=True)
class TrackerRun:
    """A record in the words of trackers. Every number is the record's own."""

    id: str  # of the record's run, fit for a file's name
    name: str
    spec: str
    benchmark: str  # its name and id, fit for a file's name
    config: dict[str, str | int | float]
    curve: list[tuple[int, dict[str, float]]]  # the step and its figures
    summary: dict[str, float]
    seconds: float  # when it finished, since 1970


def to_run(result: RunRecord) -> TrackerRun:
    """What a tracker is told of a record."""
    run, spec = result.run_id, printable(result.spec)
    if len(spec) > NAME_LIMIT:  # two that begin alike stay two
        spec = f"{spec[: NAME_LIMIT - 9]} {_sha256(result.key)[:8]}"
    identity = run if re.fullmatch(r"[A-Za-z0-9_-]{1,64}", run) else _sha256(run)[:32]
    told = ("spec", "key", "seed", "benchmark", "benchmark_id", "params", "macs", "device", "versions", "commit",
            "train_images", "overrides")  # fmt: skip
    config = {**result.definition, **{name: getattr(result, name) for name in told}, "run_id": identity}
    config["epochs"] = len(result.curve)  # trained, which the recipe's are multiplied to
    try:
        seconds = datetime.fromisoformat(result.finished).timestamp()
    except (ValueError, OverflowError, OSError):
        seconds = 0.0
    return TrackerRun(
        id=identity,
        name=f"{spec} seed {result.seed}",
        spec=spec,
        benchmark=f"{_file_name(result.benchmark)}_{_file_name(result.benchmark_id)}",
        config=dict(_flat(config)),
        curve=[(int(line["epoch"]), {name: line[name] for name in COLUMNS if name in line}) for line in result.curve],
        summary={
            "final/top1": result.top1,
            "final/top5": result.top5,
            "hours": result.hours,
            "images_per_second": result.images_per_second,
        },
        seconds=seconds,
    )


def _flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str | int | float]]:
    """The leaves, as ("recipe.lr", 0.1), under names and in texts that every tracker takes."""
    for key, value in values.items():
        name = prefix + (re.sub(r"[^A-Za-z0-9_]", "_", key).lstrip("_") or "unnamed")
        if isinstance(value, dict):
            yield from _flat(value, f"{name}.")
        elif isinstance(value, int | float):
            yield name, value
        else:
            yield name, printable(value if isinstance(value, str) else json.dumps(value))[:VALUE_LIMIT]


def _file_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_]", "_", text)[:40]


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def write_tensorboard(runs: Sequence[TrackerRun], folder: Path) -> None:
    """A folder a run, replaced whole. Scalars have TensorBoard's 32 bits; text and hparams have all digits."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams.summary_v2 import hparams_pb
    from tensorboard.plugins.text.summary_v2 import text_pb
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    def scalars(figures: dict[str, float]) -> Any:
        return Summary(value=[Summary.Value(tag=name, simple_value=figure) for name, figure in figures.items()])

    for run in runs:
        place = folder / run.benchmark
        place.mkdir(exist_ok=True)
        words = re.sub(r"[^A-Za-z0-9_+=,-]", "_", run.name)
        record = json.dumps({**run.config, **run.summary}, indent=2, ensure_ascii=False)
        text = text_pb("record", "\n".join(f"    {line}" for line in record.splitlines()))  # Markdown's code
        with tempfile.TemporaryDirectory(prefix=".", dir=place) as temporary:
            writer = EventFileWriter(str(Path(temporary) / "new"))
            for step, summary in (
                (0, hparams_pb(run.config, trial_id=run.id, start_time_secs=run.seconds)),
                (0, text),
                *((step, scalars(figures)) for step, figures in run.curve),
                (run.curve[-1][0], scalars(run.summary)),
            ):
                writer.add_event(Event(wall_time=run.seconds, step=step, summary=summary))
            writer.close()
            for old in place.glob(f"*.{run.id}"):
                shutil.rmtree(old)
            (Path(temporary) / "new").rename(place / f"{words}.{run.id}")


def write_wandb(runs: Sequence[TrackerRun], folder: Path) -> None:
    """A folder offline-run-TIME-ID a run, which replaces those of the same id. Seeds of a spec are a group."""
    import wandb

    settings = wandb.Settings(
        silent=True,
        console="off",
        disable_code=True,
        disable_git=True,
        x_disable_machine_info=True,
        x_disable_meta=True,
        x_disable_stats=True,
        x_save_requirements=False,
    )
    for run in runs:
        for old in folder.glob(f"wandb/offline-run-????????_??????-{run.id}"):
            shutil.rmtree(old)
        names: dict[str, Any] = {"project": run.benchmark, "group": run.spec, "name": run.name, "id": run.id}
        with wandb.init(**names, config=run.config, mode="offline", dir=str(folder), settings=settings) as live:
            for step, figures in run.curve:
                live.log({"epoch": step, **figures}, step=step)
            live.summary.update(run.summary)


def write_mlflow(runs: Sequence[TrackerRun], folder: Path) -> None:
    """An SQLite store. A run that is there whole and says the same is kept; another of the same run is deleted."""
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param

    os.chdir(folder)  # the store's address takes no path with a ? in it
    client = MlflowClient("sqlite:///mlflow.db")
    for run in runs:
        known = client.get_experiment_by_name(run.benchmark)
        experiment = known.experiment_id if known else client.create_experiment(run.benchmark)
        digest, whole = _sha256(json.dumps(asdict(run))), False
        for old in client.search_runs([experiment], f"tags.run_id = '{run.id}'"):
            if not whole and old.data.tags.get("digest") == digest and old.info.status == "FINISHED":
                whole = True
            else:
                client.delete_run(old.info.run_id)
        if whole:
            continue
        time = int(run.seconds * 1000)
        created = client.create_run(experiment, time, {"run_id": run.id, "digest": digest}, run.name).info.run_id
        params = [Param(name, str(value)) for name, value in run.config.items()]
        points = [*run.curve, (run.curve[-1][0], run.summary)]
        metrics = [Metric(name, figure, time, step) for step, figures in points for name, figure in figures.items()]
        for start in range(0, len(params), 100):  # as many as it takes at once
            client.log_batch(created, params=params[start : start + 100])
        for start in range(0, len(metrics), 1000):
            client.log_batch(created, metrics[start : start + 1000])
        client.set_terminated(created, "FINISHED", time)


def write_trackio(runs: Sequence[TrackerRun], folder: Path) -> None:
    """One database a benchmark; a run there of the same run is deleted first. Seeds of a spec are a group."""
    os.environ["TRACKIO_DIR"] = str(folder)  # read at import
    import trackio

    quiet: dict[str, Any] = {"embed": False, "auto_log_cpu": False, "auto_log_gpu": False}
    with warnings.catch_warnings(record=True) as said:  # all that it does where it could not write
        warnings.simplefilter("always", UserWarning)
        for run in runs:
            for old in trackio.Api().runs(run.benchmark) if any(folder.glob(f"{run.benchmark}.db")) else ():
                if (old.config or {}).get("run_id") == run.id:
                    old.delete()
            live: Any = trackio.init(run.benchmark, run.name, run.spec, config=run.config, **quiet)
            for step, figures in run.curve[:-1]:
                live.log(figures, step)
            live.log(run.curve[-1][1] | run.summary, run.curve[-1][0])
            live.finish()
    if said:
        raise OSError(str(said[0].message))


TRACKERS: dict[str, Callable[[Sequence[TrackerRun], Path], None]] = {
    "tensorboard": write_tensorboard,
    "wandb": write_wandb,
    "mlflow": write_mlflow,
    "trackio": write_trackio,
}
LOOK = {  # how to look at what was written
    "tensorboard": "tensorboard --logdir {}",
    "wandb": "wandb sync {}/wandb/offline-run-*",
    "mlflow": "mlflow ui --backend-store-uri sqlite:///{}/mlflow.db",
    "trackio": "TRACKIO_DIR={} trackio show",
}


def export(tracker: str, results: Sequence[RunRecord], folder: Path) -> str:
    """Writes a tracker's run for each record below folder/TRACKER; returns the command that shows them.

    To export a record again replaces its run. Raises InputError where the tracker is unknown, not installed or fails.
    """
    if tracker not in TRACKERS:
        raise unknown("tracker", tracker, TRACKERS)
    library = find_spec(tracker)
    if library is None or library.origin is None:  # no origin: a folder of that name, such as wandb leaves behind
        raise InputError(f"{tracker} is not installed: pip install 'timm-ablate[{tracker}]'")
    place = folder.resolve() / tracker
    try:
        place.mkdir(parents=True, exist_ok=True)
        if not os.access(place, os.W_OK):  # wandb would go elsewhere
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        done = _in_child(tracker, json.dumps([asdict(to_run(result)) for result in results]), place)
    except OSError as error:
        raise InputError(f"cannot write to {place}: {error.strerror or error}") from error
    if done.returncode:
        errors = re.findall(r"^[\w.]*(?:Error|Exception): .*", done.stderr, re.MULTILINE)
        raise InputError(f"{tracker} could not write to {place}: {printable((errors or ['its process died'])[-1])}")
    return LOOK[tracker].format(shlex.quote(str(place)))


def _in_child(tracker: str, runs: str, place: Path) -> subprocess.CompletedProcess[str]:
    """Runs this file's last lines in a process whose home is an empty folder, removed at the end."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        environment = {name: os.environ[name] for name in KEPT if name in os.environ} | OFFLINE
        environment |= dict.fromkeys(("HOME", "USERPROFILE", "TMPDIR", "TEMP", "TMP"), home)
        root = str(Path(__file__).resolve().parents[2])
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [root, environment.get("PYTHONPATH")]))
        environment["PYTHONUSERBASE"] = site.getuserbase()
        command = [sys.executable, "-P", "-m", "ablation.report.trackers", tracker, str(place)]
        return subprocess.run(command, input=runs, env=environment, cwd=home, capture_output=True, text=True)


if __name__ == "__main__":
    TRACKERS[sys.argv[1]]([TrackerRun(**run) for run in json.load(sys.stdin)], Path(sys.argv[2]))
    with tempfile.TemporaryFile(dir=sys.argv[2]) as probe:
        probe.write(bytes(ROOM))
