"""The rows of a recorded plan that can no longer be read, for example because the plugin of a part is gone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Self

from ablation.plans.row import Row
from ablation.plans.stored_plans import StoredRow, stored_rows
from arch.errors import InputError
from arch.layers import short_version
from arch.plugins import plugin_versions
from arch.spec import Architecture, Spec
from arch.timm_model import TimmModel
from benchmarks.definition.config_parser import read_run_config
from benchmarks.definition.overrides import RunConfig
from benchmarks.records.store import RunRecord


@dataclass(frozen=True)
class UnreadableConfig(RunConfig):
    """A recorded config whose spec cannot be read. It has a name and a key, and cannot be trained.

    Attributes:
        recorded_key: The key in the record.
        reason: Why the spec cannot be read.
    """

    recorded_key: str = ""
    reason: str = field(default="", compare=False)

    @property
    def architecture(self) -> Architecture:
        """An opaque architecture, which differs from all others and is never built."""
        return TimmModel(str(self.spec))

    @cached_property
    def key(self) -> str:
        """The recorded key."""
        return self.recorded_key


@dataclass(frozen=True)
class RecordedRows:
    """The recorded configs of a plan.

    Attributes:
        text: The text of the plan.
        configs: The configs, in the order in which they were recorded or stored.
        stored: The rows of the plan as it was run; () if they were not stored. The configs are then compared with the
            first one.
    """

    text: str
    configs: tuple[RunConfig, ...]
    stored: tuple[StoredRow, ...] = ()

    def __str__(self) -> str:
        return self.text

    def rows(self) -> list[Row]:
        """Return one row per config."""
        if self.stored:
            pairs = zip(self.stored, self.configs, strict=True)
            return [Row(row.label, config, row.against, row.kind, row.series) for row, config in pairs]
        return [Row(str(config), config, ((0, -1),) if index else ()) for index, config in enumerate(self.configs)]

    def with_configs(self, change: Callable[[RunConfig], RunConfig]) -> Self:
        """Return the same rows, which are not changed."""
        return self


def read_config(record: RunRecord) -> RunConfig:
    """Return the config of a record; an `UnreadableConfig` if its spec is no longer valid or has another key."""
    try:
        config = read_run_config(record.spec, record.baseline)
    except InputError as error:
        hint = f"; add --plugin with the path of {', '.join(record.plugins)}" if record.plugins else ""
        return UnreadableConfig(Spec(record.spec), recorded_key=record.key, reason=f"{error}{hint}")
    if config.key == record.key:
        return config
    reason = changed_plugins([record], config) or f"{record.spec!r} describes a different model now"
    return UnreadableConfig(Spec(record.spec), recorded_key=record.key, reason=reason)


def changed_plugins(records: Sequence[RunRecord], config: RunConfig) -> str:
    """Return which plugins of a config have changed, as a sentence; "" if one of the records has their versions.

    Args:
        records: Records of the spec of the config.
        config: The config, whose plugins are loaded.
    """
    now = plugin_versions(config.architectures)
    if any(record.plugins == now for record in records):
        return ""
    changes = []
    for name, digest in now.items():
        old = dict.fromkeys(record.plugins[name] for record in records if name in record.plugins)
        if old and digest not in old:
            versions = ", ".join(map(short_version, old))
            changes.append(f"{name} has changed from version {versions} to {short_version(digest)}")
    return "; ".join(changes)


def recorded_rows(text: str, records: Sequence[RunRecord], outs: Sequence[Path] = ()) -> RecordedRows:
    """Return the rows of the records of a plan.

    Args:
        text: The text of the plan.
        records: The records of one benchmark id.
        outs: The folders that the records were read from, which may contain the plan.
    """
    stored = stored_rows(outs, text)
    if not stored:
        configs = {record.key: read_config(record) for record in records if record.plan == text}
        return RecordedRows(text, tuple(configs.values()))
    known = {record.key: record for record in records}
    return RecordedRows(
        text,
        tuple(
            read_config(known[row.key])
            if row.key in known
            else UnreadableConfig(Spec(row.spec), recorded_key=row.key, reason="it was not trained")
            for row in stored
        ),
        stored,
    )
