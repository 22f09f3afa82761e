"""The rows of a recorded plan that can no longer be read, for example because the plugin of a part is gone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Self

from ablation.plans.row import Row
from arch.errors import InputError
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
    """The recorded configs of a plan, which are compared with the first one.

    Attributes:
        text: The text of the plan.
        configs: The configs, in the order in which they were recorded.
    """

    text: str
    configs: tuple[RunConfig, ...]

    def __str__(self) -> str:
        return self.text

    def rows(self) -> list[Row]:
        """Return one row per config."""
        return [Row(str(config), config, ((0, -1),) if index else ()) for index, config in enumerate(self.configs)]

    def with_configs(self, change: Callable[[RunConfig], RunConfig]) -> Self:
        """Return the same rows, which are not changed."""
        return self


def read_config(record: RunRecord) -> RunConfig:
    """Return the config of a record; an `UnreadableConfig` if its spec is no longer valid or has another key."""
    try:
        config = read_run_config(record.spec, record.baseline)
    except InputError as error:
        return UnreadableConfig(Spec(record.spec), recorded_key=record.key, reason=str(error))
    if config.key == record.key:
        return config
    reason = f"{record.spec!r} describes a different model now"
    return UnreadableConfig(Spec(record.spec), recorded_key=record.key, reason=reason)


def recorded_rows(text: str, records: Sequence[RunRecord]) -> RecordedRows:
    """Return the rows of the records of a plan.

    Args:
        text: The text of the plan.
        records: The records of one benchmark id.
    """
    configs = {record.key: read_config(record) for record in records if record.plan == text}
    return RecordedRows(text, tuple(configs.values()))
