"""`ablate doctor`: everything a bug report needs, and whether training works on this computer."""

import os
import platform
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any

import psutil
from platformdirs import user_cache_path

from arch.errors import InputError
from arch.text import plural
from benchmarks.definition.versions import commit, installed_version, versions
from benchmarks.execution.device import resolve_device
from benchmarks.execution.executor import WorkerFailed
from benchmarks.execution.local import LocalExecutor
from benchmarks.execution.progress import Report
from benchmarks.records.lock import FolderLock
from benchmarks.records.store import RecordStore
from benchmarks.sandbox.kinds import best_sandbox

PACKAGES = ("torchvision", "fvcore", "pandas", "scipy", "safetensors", "pydantic", "ray", "onnx")
MIN_FREE_BYTES = 2**30  # enough for two checkpoints, the weights and the decoded images of a first study


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        topic: What was examined.
        text: What was found.
        problem: What is wrong and what to do; "" if nothing is wrong.
    """

    topic: str
    text: str
    problem: str = ""


def examine(out: Path, device: str, report: Report) -> Iterator[Finding]:
    """Examine the installation and yield one finding after another, the slowest last.

    Args:
        out: The output folder to examine.
        device: The device to examine, as the user gave it.
        report: Called with progress updates of the self-test.
    """
    packages = versions() | {name: installed_version(name) for name in PACKAGES}
    yield Finding("versions", ", ".join(f"{name} {version}" for name, version in packages.items()))
    yield Finding("commit", commit() or "not a git checkout")
    yield Finding("computer", _describe_computer())
    yield _examine_sandbox()
    for topic, folder in (("--out", out), ("cache", user_cache_path("timm-ablate"))):
        yield _examine_folder(topic, folder)
    yield _examine_records(out)
    yield _examine_device(device, report)
    yield _try("self-test", lambda: _run_self_test(device, report))


def to_json(findings: list[Finding]) -> list[dict[str, Any]]:
    """Return the findings as data for `--json`."""
    return [asdict(finding) for finding in findings]


def _gib(num_bytes: float) -> str:
    return f"{num_bytes / 2**30:.1f} GiB"


def _describe_computer() -> str:
    memory = psutil.virtual_memory()
    free = f"{_gib(memory.available)} of {_gib(memory.total)} memory available"
    return f"{platform.platform()}, {os.cpu_count()} logical cores, {free}"


def _examine_sandbox() -> Finding:
    sandbox = best_sandbox()
    if sandbox != "none":
        return Finding("sandbox", sandbox)
    return Finding("sandbox", "none", "budget-check runs .py files only with --trust: install bubblewrap")


def _examine_folder(topic: str, folder: Path) -> Finding:
    """Report the free space of a folder that may not exist yet, and whether it can be written to."""
    existing = next(path for path in [folder.absolute(), *folder.absolute().parents] if path.exists())
    free = shutil.disk_usage(existing).free
    text = f"{folder}: {_gib(free)} free"
    try:
        TemporaryFile(dir=existing).close()
    except OSError as error:
        problem = f"{existing} cannot be written to ({error.strerror or error}): choose another folder"
        return Finding(topic, text, problem)
    if free < MIN_FREE_BYTES:
        return Finding(topic, text, f"less than {_gib(MIN_FREE_BYTES)} free: free some space, or choose another folder")
    return Finding(topic, text)


def _examine_records(out: Path) -> Finding:
    store = RecordStore(out)
    try:
        records = store.records()
        store.failed_runs()
    except InputError as error:
        return Finding("records", "cannot be read", str(error))
    num_unfinished = len(list((out / "checkpoints").glob("*"))) if out.exists() else 0
    holder = FolderLock(out).holder()
    locked = f", locked by {holder}" if holder else ""
    return Finding(
        "records",
        f"{plural(len(records), 'run')} recorded, {num_unfinished} unfinished{locked}",
        "; ".join(store.warnings()),
    )


def _try(topic: str, describe: Callable[[], str]) -> Finding:
    try:
        return Finding(topic, describe())
    except (InputError, WorkerFailed, OSError) as error:
        return Finding(topic, "failed", str(error))


def _examine_device(device: str, report: Report) -> Finding:
    warnings: list[str] = []
    finding = _try("device", lambda: _describe_device(resolve_device(device, warn=warnings.append), report))
    return replace(finding, problem=finding.problem or "; ".join(warnings))


def _describe_device(device: str, report: Report) -> str:
    description: str = LocalExecutor().call("benchmarks.cli.self_test:describe_device", report, device)
    return description


def _run_self_test(device: str, report: Report) -> str:
    with TemporaryDirectory() as folder:
        function = "benchmarks.cli.self_test:run_self_test"
        resolved = resolve_device(device, warn=lambda line: None)  # already reported as a finding about the device
        result: str = LocalExecutor().call(function, report, resolved, Path(folder))
    return result
