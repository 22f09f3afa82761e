"""Cost and throughput of a model on this device, cached on disk."""

import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks.budget.device_cache import cache_file
from benchmarks.budget.performance import Inference
from benchmarks.budget.verdict import ModelCost, Throughput
from benchmarks.definition.benchmark import Benchmark
from benchmarks.definition.config_parser import read_run_config
from benchmarks.definition.overrides import RunConfig
from benchmarks.definition.validation import strict_adapter
from benchmarks.execution.progress import Report
from benchmarks.records.atomic_write import replace_file
from benchmarks.training.compile_mode import CompileMode

MAX_DAYS_WITHOUT_NOTE = 30  # age of a measurement
MEASUREMENT_FORMAT = 9  # increase whenever a code change affects what is measured


@dataclass(frozen=True)
class _CacheFile:
    cost: ModelCost
    throughput: Throughput | None
    inference: Inference | None
    tried: dict[str, str]
    shared: dict[str, float]


@dataclass
class Measurement:
    """The cached measurement of one model.

    It is valid for the images and the recipe of one benchmark, one device of one computer, and one set of versions.

    Attributes:
        path: The file.
        cost: Parameters and MACs.
        throughput: The speed of one training run in its fastest compile mode.
        tried: The compile modes that were tried besides eager, with the errors of those that failed. Modes
            that may succeed at another time are not included.
        shared: The total images/s of several runs that share the device, by their number (as text).
    """

    path: Path
    cost: ModelCost | None = None
    throughput: Throughput | None = None
    inference: Inference | None = None
    tried: dict[str, str] = field(default_factory=dict)
    shared: dict[str, float] = field(default_factory=dict)

    @classmethod
    def read(cls, config: RunConfig, benchmark: Benchmark, device: str) -> "Measurement":
        """Read the measurement of a run config; what is not cached is None."""
        subject: dict[str, Any] = {
            "format": MEASUREMENT_FORMAT,
            "net": _timing_key(config),
            "data": benchmark.data.definition(),
            "recipe": benchmark.recipe.definition(),
        }
        path = cache_file("measurements", subject, device)
        try:
            content = strict_adapter(_CacheFile).validate_json(path.read_bytes())
        except (OSError, ValueError):
            return cls(path)
        return cls(path, content.cost, content.throughput, content.inference, content.tried, content.shared)

    def write(self) -> None:
        """Write the measurement atomically. If the cache is not writable, the model is measured again next time."""
        if self.cost is None:
            return
        content = json.dumps(asdict(_CacheFile(self.cost, self.throughput, self.inference, self.tried, self.shared)))
        with suppress(OSError):
            replace_file(self.path, lambda file: file.write_text(content))


def delete_measurements(report: Report, specs: Sequence[str], benchmark: Benchmark, device: str) -> None:
    """Delete the cached measurements of specs, so that the next check measures them. `report` is unused."""
    for spec in specs:
        with suppress(OSError):
            Measurement.read(read_run_config(spec, benchmark.baseline), benchmark, device).path.unlink()


def read_shared(config: RunConfig, benchmark: Benchmark, device: str, compile_mode: CompileMode) -> dict[str, float]:
    """Return `Measurement.shared` of a run config; empty if its fastest compile mode is not this one."""
    measurement = Measurement.read(config, benchmark, device)
    is_fastest = measurement.throughput is not None and measurement.throughput.compile_mode == compile_mode
    return measurement.shared if is_fastest else {}


def write_shared(
    report: Report, config: RunConfig, benchmark: Benchmark, device: str, shared: dict[str, float]
) -> None:
    """Add the speeds of several runs that share the device to the measurement of a run config."""
    measurement = Measurement.read(config, benchmark, device)
    measurement.shared = measurement.shared | shared
    measurement.write()


def old_measurement_note(throughputs: Iterable[Throughput | None]) -> str:
    """Return a note if the oldest of some throughputs was measured long ago, otherwise ""."""
    dates = [throughput.measured for throughput in throughputs if throughput and throughput.measured]
    limit = datetime.now(UTC).date() - timedelta(days=MAX_DAYS_WITHOUT_NOTE)
    if not dates or min(dates) >= limit.isoformat():
        return ""
    return f"note: speeds that were measured on {min(dates)} are used again; --remeasure measures them now"


def _timing_key(config: RunConfig) -> list[str]:
    """Return what the duration of a training step depends on: the model, its teacher and its frozen layers.

    The distillation method counts, too, and so does a distillation weight that grows, because such a step cannot be
    captured as a CUDA graph.
    """
    distillation = config.overrides.distillation
    teacher = distillation.teacher if distillation else ""
    teacher_key = teacher if isinstance(teacher, str) else teacher.architecture.key()
    growing = "@growing" if distillation and distillation.growing else ""
    method = f"@method={distillation.method}" if distillation and distillation.method != "kd" else ""
    return [config.architecture.key(), teacher_key + method + growing, *config.overrides.frozen_layers]
