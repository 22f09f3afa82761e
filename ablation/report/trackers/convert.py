"""Convert records, and runs in training, to what trackers store."""

import hashlib
import json
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from ablation.report.trackers.base import TrackerRun
from arch.text import printable
from benchmarks.records.live_runs import LiveRun
from benchmarks.records.store import RunRecord

CURVE_COLUMNS = ("train_loss", "train_top1", "loss", "top1", "top5")
CONFIG_FIELDS = ("spec", "key", "seed", "benchmark", "benchmark_id", "params", "macs", "device", "versions", "commit",
                 "train_images", "overrides")  # fmt: skip
MAX_SPEC_CHARACTERS = 80  # limit for the spec in a run's name; wandb accepts names of 128 characters
MAX_VALUE_CHARACTERS = 6000  # MLflow's limit


def to_tracker_run(record: RunRecord | LiveRun) -> TrackerRun:
    """Return a record, or a run in training, in the form that trackers store."""
    spec, run_id = printable(record.spec), _safe_id(record.run_id)
    if len(spec) > MAX_SPEC_CHARACTERS:  # the hash distinguishes specs with the same beginning
        spec = f"{spec[: MAX_SPEC_CHARACTERS - 9]} {_sha256(record.key)[:8]}"
    config = {**record.definition, **{name: getattr(record, name) for name in CONFIG_FIELDS}, "run_id": run_id}
    if isinstance(record, LiveRun):
        epochs, summary, seconds = record.epochs, {}, record.updated
    else:
        epochs, summary, seconds = len(record.curve), _summary(record), _timestamp(record.finished)
    config["epochs"] = epochs  # as trained, which may be a multiple of the recipe's epochs
    return TrackerRun(
        id=run_id,
        name=f"{spec} seed {record.seed}",
        spec=spec,
        benchmark=f"{_file_name(record.benchmark)}_{_file_name(record.benchmark_id)}",
        config=dict(_flatten(config)),
        curve=[
            (int(epoch["epoch"]), {name: epoch[name] for name in CURVE_COLUMNS if name in epoch})
            for epoch in record.curve
        ],
        summary=summary,
        seconds=seconds,
    )


def _summary(record: RunRecord) -> dict[str, float]:
    return {
        "final/top1": record.top1,
        "final/top5": record.top5,
        "hours": record.hours,
        "images_per_second": record.images_per_second,
    }


def _timestamp(text: str) -> float:
    """Return a time in ISO 8601 as seconds since 1970; 0 if it is invalid."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError):
        return 0.0


def _flatten(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str | int | float]]:
    """Yield the leaves, as ("recipe.lr", 0.1), with names and values that every tracker accepts."""
    for key, value in values.items():
        name = prefix + (re.sub(r"[^A-Za-z0-9_]", "_", key).lstrip("_") or "unnamed")
        if isinstance(value, dict):
            yield from _flatten(value, f"{name}.")
        elif isinstance(value, int | float):
            yield name, value
        else:
            yield name, printable(value if isinstance(value, str) else json.dumps(value))[:MAX_VALUE_CHARACTERS]


def _safe_id(run_id: str) -> str:
    return run_id if re.fullmatch(r"[A-Za-z0-9_-]{1,64}", run_id) else _sha256(run_id)[:32]


def _file_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_]", "_", text)[:40]


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
