"""The factors of the rows of a table: their parts and training overrides, which the layout `checks` shows."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from ablation.plans.recorded_rows import UnreadableConfig
from ablation.plans.row import Row
from arch.errors import InputError
from arch.spec import Spec, Step
from arch.text import printable
from benchmarks.definition.overrides import Distillation, RunConfig, format_number

CHECK = "✓"
BASE = "@base"  # no part starts with @
DISTILLATION_DEFAULTS = {
    "@method": Distillation.method,
    "@T": format_number(Distillation.temperature),
    "@alpha": format_number(Distillation.alpha),
}
DEFAULTS = {"@data": "1", "@epochs": "1", **DISTILLATION_DEFAULTS}
Factors = Mapping[str, str]  # the text of each factor that a row has, by name; names of overrides start with @


def row_factors(rows: Sequence[Row], name_weights: Callable[[str], str] = str) -> tuple[Factors, ...]:
    """Return the factors of each row.

    The text of a part is a check mark, or its value if the rows set it. A part that a later one removes or replaces is
    not a factor.

    Args:
        rows: The rows.
        name_weights: Replaces the digests of initial weights in a text by names.
    """
    steps = [[] if isinstance(row.config, UnreadableConfig) else _effective_steps(row.config.spec) for row in rows]
    with_value = {step.part for line in steps for step in line if "=" in str(step)}  # others have their default value
    factors = []
    for row, line in zip(rows, steps, strict=True):
        parts = {step.part: _value(step) if step.part in with_value else CHECK for step in line}
        factors.append(_base(row.config) | parts | _override_factors(row.config))
    return tuple({name: name_weights(text) for name, text in line.items()} for line in factors)


def _base(config: RunConfig) -> dict[str, str]:
    return {BASE: str(config.spec) if isinstance(config, UnreadableConfig) else config.spec.base}


def _effective_steps(spec: Spec) -> list[Step]:
    """Return the added steps without which the architecture would be another one."""
    active = spec.active_steps()
    return [
        step
        for step in active
        if _differs(spec, replace(spec, steps=tuple(other for other in active if other is not step), start=0))
    ]


def _differs(spec: Spec, shorter: Spec) -> bool:
    try:
        return shorter.architecture != spec.architecture
    except InputError:  # a later step needs the missing one
        return True


def _value(step: Step) -> str:
    return str(step.value).removesuffix(".0")


def _override_factors(config: RunConfig) -> dict[str, str]:
    if isinstance(config, UnreadableConfig):
        return {}
    overrides = config.overrides
    factors = {
        "@data": str(overrides.data_fraction),
        "@epochs": str(overrides.epochs_factor),
        "@drawn": CHECK * overrides.is_drawn,
        "@updates": CHECK * overrides.equal_updates,
        "@init": str(overrides.initial_run or overrides.initial_weights),
        "@freeze": ", ".join(overrides.frozen_layers),
    }
    if distillation := overrides.distillation:
        factors |= {
            "@teacher": str(distillation.teacher),
            "@method": distillation.method,
            **{f"@{name}": format_number(number) for name, number in distillation.numbers().items()},
            "@growing": CHECK * distillation.growing,
            "@hard": CHECK * distillation.hard,
            "@standardize": CHECK * distillation.standardize,
        }
    return {name: text for name, text in factors.items() if text}


def varying_factors(lines: Sequence[Factors]) -> list[str]:
    """Return the names of the factors that differ between rows: the base, the parts in order, then the overrides."""
    names = sorted({name: None for line in lines for name in line}, key=lambda name: (name != BASE, name[0] == "@"))
    default = [
        name
        for name in DISTILLATION_DEFAULTS
        if all(line.get(name, DEFAULTS[name]) == DEFAULTS[name] for line in lines)
    ]
    return [name for name in names if name not in default and len({line.get(name, "") for line in lines}) > 1]


def describe_constant(lines: Sequence[Factors]) -> str:
    """Return the factors that all rows share and that are not the default, such as "base resnet8, gelu"."""
    varying, texts = varying_factors(lines), []
    for name, text in lines[0].items():
        if name not in varying and text != DEFAULTS.get(name):
            texts.append(factor_title(name) if text == CHECK else f"{factor_title(name)} {printable(text)}")
    return ", ".join(texts)


def factor_title(name: str) -> str:
    """Return the title of the column of a factor."""
    return printable(name.removeprefix("@"))
