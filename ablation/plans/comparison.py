"""Plans that compare arbitrary configs with the first one, as in fine-tuning studies.

    plan = "compare:", config, { ",", config }

For the syntax of a config, see `benchmarks.definition.config_parser`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Self

from ablation.plans.row import Row
from arch.errors import InputError
from arch.timm_model import TimmModel
from benchmarks.definition.config_parser import (
    HUB,
    read_overrides,
    read_run_config,
    split_outside_parentheses,
)
from benchmarks.definition.overrides import RunConfig


@dataclass(frozen=True)
class Comparison:
    """Configs that are compared with the first one."""

    configs: tuple[RunConfig, ...]

    def __str__(self) -> str:
        return f"compare:{','.join(map(str, self.configs))}"

    def rows(self) -> list[Row]:
        """Return one row per config.

        A config with frozen layers is compared with the same config without them, if that is an earlier row.

        Raises:
            InputError: If two configs are the same.
        """
        keys = [config.key for config in self.configs]
        if repeated := [str(config) for index, config in enumerate(self.configs) if config.key in keys[:index]]:
            raise InputError(f"{repeated[0]!r} is in {str(self)!r} twice: remove one of them")
        rows = []
        for index, config in enumerate(self.configs):
            free = replace(config, overrides=replace(config.overrides, frozen_layers=()))
            reference = keys.index(free.key) if free.key in keys[:index] else 0
            rows.append(Row(self._label(config), config, ((reference, -1),) if index else ()))
        return rows

    def with_configs(self, change: Callable[[RunConfig], RunConfig]) -> Self:
        """Return the comparison with every config replaced by `change(config)`."""
        return replace(self, configs=tuple(map(change, self.configs)))

    def _label(self, config: RunConfig) -> str:
        """Return the overrides if only they differ from the first config, otherwise the whole config."""
        first = self.configs[0]
        overrides = str(config.overrides) if str(config.spec) == str(first.spec) and config != first else ""
        return overrides or str(config)


def parse_comparison(text: str, baseline: str) -> Comparison:
    """Parse configs separated by commas. Raises InputError if one of them is invalid."""
    return Comparison(parse_configs(split_outside_parentheses(text, ","), baseline))


def parse_configs(texts: Sequence[str], baseline: str) -> tuple[RunConfig, ...]:
    """Parse configs whose initial weights may be named by their source. Raises InputError if one is invalid."""
    return tuple(read_run_config(text.strip(), baseline, allow_sources=True) for text in texts)


def finetuning(model: RunConfig, pretrained: str, input_size: int | None, frozen: Sequence[str]) -> Comparison:
    """Return the comparison of a model trained from scratch with the same model trained from pretrained weights.

    Args:
        model: The model, which must not name initial weights.
        pretrained: The source of the weights: a file, `hub` or `hub:TAG`.
        input_size: The side length in pixels to which a timm model resizes images; None keeps the size of the images.
        frozen: Names of layers. If there are any, a third row trains from the same weights with these layers frozen.

    Raises:
        InputError: If the model already names weights, or the hub has no weights for it.
    """
    if model.overrides.is_initialized:
        raise InputError(f"{str(model)!r} already names initial weights: remove @init, --pretrained names them")
    scratch = model if input_size is None else _with_input_size(model, input_size)
    if pretrained.partition(":")[0] == HUB and not isinstance(scratch.architecture, TimmModel):
        raise InputError(f"{str(model)!r} has no published weights: use --pretrained FILE.safetensors, such as a "
                         "weights file of an earlier run")  # fmt: skip
    tuned = replace(scratch, overrides=replace(scratch.overrides, initial_weights=pretrained))
    layers = read_overrides([f"freeze={':'.join(frozen)}"]).frozen_layers if frozen else ()
    partly_frozen = replace(tuned, overrides=replace(tuned.overrides, frozen_layers=layers))
    return Comparison((scratch, tuned, partly_frozen) if layers else (scratch, tuned))


def _with_input_size(model: RunConfig, pixels: int) -> RunConfig:
    architecture = model.architecture
    if not isinstance(architecture, TimmModel) or architecture.input_size:
        raise InputError(f"--input-size needs a timm model without a size, such as timm/resnet18, not {str(model)!r}")
    return replace(model, spec=replace(model.spec, base=f"{model.spec.base}/{pixels}"))
