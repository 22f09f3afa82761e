"""What a bug report needs, and whether a training works here at all. Knows no torch."""

import os
import platform
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any

import psutil
from platformdirs import user_cache_path

from arch.errors import InputError
from benchmarks.definition.versions import commit, installed, versions
from benchmarks.execution import local
from benchmarks.execution.device import resolve_device
from benchmarks.execution.local import WorkerFailed
from benchmarks.execution.progress import Report
from benchmarks.records.lock import holder_of
from benchmarks.records.store import RecordStore
from benchmarks.sandbox.sandbox import best_sandbox

PACKAGES = ("torchvision", "fvcore", "pandas", "scipy", "safetensors", "pydantic", "ray", "onnx")
LEAST_SPACE = 2**30  # bytes: two generations of a checkpoint, the weights and the decoded images of a first study


@dataclass(frozen=True)
class Finding:
    """One line of the report; `problem` says what is wrong with it and what to do, and is empty where nothing is."""

    topic: str
    text: str
    problem: str = ""


def examine(out: Path, device: str, report: Report) -> Iterator[Finding]:
    """Everything that can be known of this installation, one finding after the other; the slowest comes last."""
    made = versions() | {name: installed(name) for name in PACKAGES}
    yield Finding("versions", ", ".join(f"{name} {version}" for name, version in made.items()))
    yield Finding("commit", commit() or "not a git checkout")
    memory = psutil.virtual_memory()
    cores = f"{os.cpu_count()} logical cores, {_gib(memory.available)} of {_gib(memory.total)} memory free"
    yield Finding("computer", f"{platform.platform()}, {cores}")
    yield (
        Finding("sandbox", sandbox)
        if (sandbox := best_sandbox()) != "none"
        else Finding("sandbox", "none", "budget-check judges .py files with --trust only: install bubblewrap")
    )
    for topic, folder in (("--out", out), ("cache", user_cache_path("timm-ablate"))):
        yield _folder(topic, folder)
    yield _records(out)
    yield _tried("device", lambda: _device(device, report))
    yield _tried("self-test", lambda: _self_test(device, report))


def to_json(findings: list[Finding]) -> list[dict[str, Any]]:
    """For `--json`."""
    return [asdict(finding) for finding in findings]


def _gib(count: float) -> str:
    return f"{count / 2**30:.1f} GiB"


def _folder(topic: str, folder: Path) -> Finding:
    """The free space where a folder is or will be, and whether it can be written to."""
    there = next(place for place in [folder.absolute(), *folder.absolute().parents] if place.exists())
    free = shutil.disk_usage(there).free
    text = f"{folder}: {_gib(free)} free"
    try:
        TemporaryFile(dir=there).close()
    except OSError as error:
        return Finding(topic, text, f"{there} cannot be written to ({error.strerror or error}): choose another folder")
    if free < LEAST_SPACE:
        return Finding(topic, text, f"less than {_gib(LEAST_SPACE)} free: make room, or choose another folder")
    return Finding(topic, text)


def _records(out: Path) -> Finding:
    store = RecordStore(out)
    try:
        results = store.results()
    except InputError as error:
        return Finding("records", "cannot be read", str(error))
    unfinished = len(list((out / "checkpoints").glob("*"))) if out.exists() else 0
    holder = holder_of(out)
    held = f", held by {holder}" if holder else ""
    text = f"{len(results)} runs recorded, {unfinished} unfinished{held}"
    return Finding("records", text, f"lines that cannot be read: {'; '.join(store.damaged)}" if store.damaged else "")


def _tried(topic: str, find: Callable[[], str]) -> Finding:
    try:
        return Finding(topic, find())
    except (InputError, WorkerFailed, OSError) as error:
        return Finding(topic, "failed", str(error))


def _device(device: str, report: Report) -> str:
    found: str = local.call("benchmarks.cli.self_test:describe_device", report, resolve_device(device))
    return found


def _self_test(device: str, report: Report) -> str:
    with TemporaryDirectory() as folder:
        said: str = local.call("benchmarks.cli.self_test:self_test", report, resolve_device(device), Path(folder))
    return said
