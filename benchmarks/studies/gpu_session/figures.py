"""The rows of the tables in the summary of a session."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.budget.performance import training_flops
from benchmarks.studies.gpu_session.step_runner import StepRunner

Rows = list[dict[str, Any]]


def read_json(file: Path) -> Any:
    """Return the content of a JSON file; None if it is missing or incomplete."""
    try:
        return json.loads(file.read_text())
    except (OSError, ValueError):
        return None


def read_lines(file: Path) -> list[dict[str, Any]]:
    """Return the content of JSON lines, without any that was cut off, as by a full disk. A file may be missing."""
    lines: list[dict[str, Any]] = []
    for line in file.read_text().splitlines() if file.exists() else []:
        with suppress(ValueError):
            lines.append(json.loads(line))
    return lines


def peak_flops(file: Path) -> float | None:
    """Return the peak in FLOP/s from the output of `peak_throughput --json`; None if it was not measured."""
    content = read_json(file)
    return content["flops"] if content else None


def _flops(macs: int | None, images_per_second: float, peak: float | None) -> dict[str, str]:
    """Return the columns for the FLOP/s that training reaches."""
    if not macs:
        return {}
    flops = training_flops(macs, images_per_second)
    share = {"% of peak": f"{100 * flops / peak:.1f}"} if peak else {}
    return {"TFLOP/s": f"{flops / 1e12:.3g}", **share}


def setting_rows(file: Path, peak: float | None) -> Rows:
    """Return a row for each line of `step_settings`, with its speed relative to the first of its model and device."""
    rows, reference = [], dict[tuple[str, str], float]()
    for line in read_lines(file):
        row = {"model": line["spec"], "batch": line["batch_size"], "setting": line["setting"]}
        if "error" in line:
            rows.append(row | {"note": line["error"].replace("|", "/")})
            continue
        milliseconds, speed = line["milliseconds"], line["images_per_second"]
        first = reference.setdefault((line["spec"], line["device"]), speed)
        row |= {
            "ms/step": f"{milliseconds:.3f}",
            "min": f"{line['fastest']:.3f}",
            "max": f"{line['slowest']:.3f}",
            "n": line["n"],
            "img/s": f"{speed:,.0f}",
            "relative": f"{speed / first:.3f}",
        }
        row |= _flops(line["macs"], speed, peak)
        memory = {"peak GiB": f"{line['peak_memory'] / 2**30:.2f}"} if line["peak_memory"] is not None else {}
        rows.append(row | {"ready s": f"{line['ready_seconds']:.1f}"} | memory)
    return rows


def check_rows(runner: StepRunner, peak: float | None) -> Rows:
    """Return a row for each budget check that timed its model."""
    rows = []
    for name in runner.outcomes:
        verdict = read_json(runner.output(name)) if name.startswith("budget check ") else None
        if not verdict or not verdict["throughput"]:
            continue
        throughput, hours = verdict["throughput"], verdict["local_hours"] or verdict["hours"]
        speed = throughput["training"]["median"]
        row = {
            "model": name.removeprefix("budget check "),
            "params": f"{verdict['cost']['params']:,}",
            "GMACs": f"{verdict['macs'] / 1e9:.3f}",
            "fastest mode": throughput["compile_mode"],
            "training img/s": f"{speed:,.0f}",
            "evaluation img/s": f"{throughput['evaluation']['median']:,.0f}",
            "predicted h": f"{hours['predicted']:.4f}",
        }
        rows.append(row | _flops(verdict["macs"], speed, peak))
    return rows


def training_rows(runs: Path, peak: float | None) -> Rows:
    """Return a row for each finished and each unfinished training run in an output folder."""
    from benchmarks.records.store import RecordStore
    from benchmarks.records.unfinished import unfinished_runs

    if not runs.exists():
        return []
    rows: Rows = [
        {
            "run": f"{record.spec} seed {record.seed}",
            "epochs": len(record.curve),
            "top-1 %": f"{record.top1:.2f}",
            "top-5 %": f"{record.top5:.2f}",
            "predicted h": f"{record.predicted_hours:.4f}",
            "measured h": f"{record.hours:.4f}",
            "measured / predicted": f"{record.hours / record.predicted_hours:.2f}" if record.predicted_hours else "",
            "img/s": f"{record.images_per_second:,.0f}",
            "mode": record.compile_mode,
            "runs per device": record.runs_per_device,
            **_flops(record.macs, record.images_per_second, peak),
        }
        for record in RecordStore(runs).records()
    ]
    unfinished = (
        {"run": f"{run.spec} seed {run.seed}, unfinished", "epochs": run.epochs} for run in unfinished_runs(runs)
    )
    return [*rows, *unfinished]
