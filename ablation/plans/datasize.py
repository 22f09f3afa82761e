"""The rows of a study of data size: nets on ever larger parts of the training images.

    datasize(1/16, 1/2, 1):resnet8,resnet20            as many epochs on each part
    datasize(1/16, 1/2, 1, updates):resnet8,resnet20   as many updates: the fewer images, the more epochs

A part is the first images of each class in their fixed order: the smaller is inside the larger, and each hashes the
same everywhere. Every cell is a training of its own, with fresh weights. Knows no torch.
"""

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

from ablation.plans.row import Row
from arch.errors import InputError, unknown
from benchmarks.definition.benchmark import Benchmark
from benchmarks.definition.overrides import RunConfig, read_overrides, read_run_config, split_outside

EQUAL = ("epochs", "updates")
STARTS = ("scratch", "imagenet")


def datasize_rows(text: str, arguments: list[str], benchmark: Benchmark) -> list[Row]:
    """Each net on each part, compared with the first net on the same part; one that starts from weights with itself
    from scratch, where that is there."""
    equals = [word for word in arguments if word in EQUAL]
    if len(equals) > 1:
        raise InputError(f"{' and '.join(equals)} in the brackets of datasize: one of them can be equal")
    equal = equals[0] if equals else EQUAL[0]
    fractions = sorted({read_overrides([f"data={word}"]).fraction for word in arguments if word not in EQUAL})
    if not fractions:
        raise InputError(f"{'datasize:' + text!r} names no part of the images, as datasize(1/16,1/2,1):resnet8 does")
    configs = [read_run_config(word.strip(), benchmark.baseline) for word in split_outside(text, ",")]
    if len({config.key for config in configs}) < len(configs):
        raise InputError(f"a net stands twice in {'datasize:' + text!r}")
    return [
        Row(
            f"{config} {fraction}",
            _on(config, fraction, equal),
            _against(place, configs, step, len(fractions)),
            series=str(config),
        )
        for place, config in enumerate(configs)
        for step, fraction in enumerate(fractions)
    ]


def _on(config: RunConfig, fraction: Fraction, equal: str) -> RunConfig:
    overrides = config.overrides
    if overrides.fraction != 1:
        raise InputError(f"{config}: the parts of the images stand in the brackets of datasize")
    # the whole is the whole, whatever should be equal: its training is that of any other study
    updates = equal == "updates" and fraction < 1
    return RunConfig(config.spec, replace(overrides, fraction=fraction, updates=updates))


def _against(place: int, configs: Sequence[RunConfig], step: int, steps: int) -> tuple[tuple[int, int], ...]:
    if place == 0:
        return ()
    own = configs[place]
    scratch = RunConfig(own.spec, replace(own.overrides, weights="", frozen=()))
    other = next((i for i, config in enumerate(configs) if config.key == scratch.key and own.overrides.weights), 0)
    return ((other * steps + step, -1),)


def datasize_plan(
    models: Sequence[str], fractions: Sequence[str], init: Sequence[str], pretrained: str, equal: str
) -> str:
    """The plan as text. init: "scratch", "imagenet" or both. pretrained: the word for the latter's weights."""
    if wrong := [word for word in init if word not in STARTS]:
        raise unknown("--init", wrong[0], STARTS)
    starts = dict(zip(STARTS, ("", f"@init={pretrained}"), strict=True))
    nets = [net.strip() for model in models for net in split_outside(model, ",")]
    configs = [f"{net}{starts[word]}" for net in nets for word in dict.fromkeys(init)]
    parts = [part.strip() for words in fractions for part in words.split(",") if part.strip()]
    words = [*parts, *([equal] if equal != EQUAL[0] else [])]
    return f"datasize({','.join(words)}):{','.join(configs)}"
