"""What was counted and timed of a net on this device, kept on disk so that it is done once."""

import hashlib
import json
import os
import platform
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from benchmarks.budget.verdict import ModelCost, Throughput
from benchmarks.definition.benchmark import Benchmark, strict_adapter
from benchmarks.definition.overrides import RunConfig
from benchmarks.definition.versions import versions
from benchmarks.execution.device import device_name
from benchmarks.records.atomic_write import replace_file

FORMAT = 2  # raised when what is measured changes


@dataclass(frozen=True)
class _Kept:
    cost: ModelCost
    throughput: Throughput | None


@dataclass
class Measurement:
    """One net's, under one benchmark's images and recipe, on one device of one computer, with one set of versions."""

    path: Path
    cost: ModelCost | None = None
    throughput: Throughput | None = None

    @classmethod
    def read(cls, config: RunConfig, benchmark: Benchmark, device: str) -> "Measurement":
        """What is known; both None where nothing is."""
        what: dict[str, Any] = {
            "format": FORMAT,
            "net": _timed_of(config),
            "data": asdict(benchmark.data),
            "recipe": asdict(benchmark.recipe),
            "where": [platform.node(), device_name(device), os.cpu_count(), versions()],
        }
        digest = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:24]
        path = user_cache_path("timm-ablate") / "measurements" / f"{digest}.json"
        try:
            kept = strict_adapter(_Kept).validate_json(path.read_bytes())
        except (OSError, ValueError):
            return cls(path)
        return cls(path, kept.cost, kept.throughput)

    def write(self) -> None:
        """Keeps what is known now, whole or not at all; where nothing can be written it is measured again."""
        if self.cost is None:
            return
        content = json.dumps(asdict(_Kept(self.cost, self.throughput)))
        with suppress(OSError):
            replace_file(self.path, lambda file: file.write_text(content))


def _timed_of(config: RunConfig) -> list[str]:
    """What the time of a training step depends on."""
    taught = config.overrides.distillation
    teacher = taught.teacher if taught else ""
    known = teacher if isinstance(teacher, str) else teacher.architecture.key()
    return [config.architecture.key(), known, *config.overrides.frozen]
