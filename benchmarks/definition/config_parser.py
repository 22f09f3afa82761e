"""Read run configs from text.

    config  = spec, { "@", setting }
    setting = data=FRACTION | drawn | epochs=FACTOR | updates | freeze=LAYER{:LAYER}
            | init=WEIGHTS | init=(config)
            | teacher=(config) | teacher=previous | teacher=uniform
            | method=METHOD | T=TEMPERATURE | alpha=WEIGHT | beta=WEIGHT | growing | hard | standardize

`resnet8@data=1/4` trains on a quarter of the images; `resnet8@teacher=(resnet20)@T=2` learns from resnet20 as well.
With `drawn`, the seed of the run draws its fraction of the images. `resnet8@init=(resnet8@data=1/4)` starts from the
final weights of the run of another config, which has the same architecture and the same seed.
The settings of the last line are those of the distillation loss; see `benchmarks.definition.distillation_methods`.
No setting can change a hyperparameter of the recipe, such as the learning rate.
"""

import re
from collections.abc import Mapping
from fractions import Fraction

from arch.errors import InputError, unknown
from arch.spec import parse
from benchmarks.definition.distillation_methods import NUMBER_SETTINGS, DistillationMethod, number_settings
from benchmarks.definition.overrides import (
    MAX_EPOCHS_FACTOR,
    PREVIOUS,
    UNIFORM,
    Distillation,
    RunConfig,
    TeacherStandIn,
    TrainingOverrides,
    format_number,
)

HUB = "hub"  # in a plan: timm's default weights of the model; "hub:TAG" selects other weights
WEIGHTS_DIGEST = re.compile(r"[0-9a-f]{16}")  # see `benchmarks.records.weights_file.digest_of`
LAYER_NAME = re.compile(r"[A-Za-z0-9_.]+")
MAX_NESTING_DEPTH = 5  # maximum length of a chain of teachers and initial runs

STAND_INS: dict[str, TeacherStandIn] = {PREVIOUS: PREVIOUS, UNIFORM: UNIFORM}
NUMBER_NAMES = ("T", "alpha", "beta")
TEACHER_SETTINGS = ("method", *NUMBER_NAMES, "growing", "hard", "standardize")
FLAG_SETTINGS = ("drawn", "updates", "growing", "hard", "standardize")
SETTING_NAMES = ("data", "drawn", "epochs", "updates", "init", "freeze", "teacher", *TEACHER_SETTINGS)


def split_settings(text: str) -> tuple[str, list[str]]:
    """Split `resnet8@data=1/4` into the spec and its settings. An "@" in parentheses does not separate settings."""
    spec, *settings = split_outside_parentheses(text, "@")
    return spec, settings


def split_outside_parentheses(text: str, separator: str) -> list[str]:
    """Split a string at each separator that is not in parentheses.

    Raises:
        InputError: If the parentheses do not match.
    """
    parts, depth, start = list[str](), 0, 0
    for index, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if depth < 0:
            break
        if character == separator and depth == 0:
            parts.append(text[start:index])
            start = index + 1
    if depth:
        raise InputError(f"the parentheses in {text!r} do not match")
    return [*parts, text[start:]]


def read_run_config(
    text: str, baseline: str | None = None, depth: int = 0, *, allow_sources: bool = False
) -> RunConfig:
    """Read a run config.

    Args:
        text: The config, such as `resnet8@data=1/4`.
        baseline: The spec that the word `baseline` stands for. See `arch.spec.parse`.
        depth: 0 for a network, 1 for its teacher or initial run, 2 for the teacher of its teacher, and so on.
        allow_sources: Whether `init` may name the source of the weights (a file, `hub` or `hub:TAG`) instead of their
            digest. `ablation.plans.pretrained` replaces the sources in a plan with digests.

    Raises:
        InputError: If the text is not a valid config. The message is one line.
    """
    spec, settings = split_settings(text)
    return RunConfig(parse(spec, baseline), read_overrides(settings, baseline, depth, allow_sources=allow_sources))


def read_overrides(
    settings: list[str], baseline: str | None = None, depth: int = 0, *, allow_sources: bool = False
) -> TrainingOverrides:
    """Read the settings of a config, such as `data=1/4`. For the other arguments, see `read_run_config`.

    Raises:
        InputError: If a setting is invalid. The message names the valid settings.
    """
    values = _values_by_name(settings)
    initial_run = _read_initial_run(values.get("init", ""), baseline, depth, allow_sources)
    overrides = TrainingOverrides(
        data_fraction=_read_fraction("data", values.get("data", "1"), 1),
        epochs_factor=_read_fraction("epochs", values.get("epochs", "1"), MAX_EPOCHS_FACTOR, allow_zero=True),
        initial_weights="" if initial_run else _read_weights(values, allow_sources),
        frozen_layers=_read_layers(values.get("freeze", "")),
        equal_updates="updates" in values,
        distillation=_read_distillation(values, baseline, depth, allow_sources),
        is_drawn="drawn" in values,
        initial_run=initial_run,
    )
    if overrides.is_drawn and overrides.data_fraction == 1:
        raise InputError("'@drawn' needs a fraction of the images below 1, such as @data=1/4@drawn")
    untrained = TrainingOverrides(epochs_factor=Fraction(0), initial_weights=overrides.initial_weights)
    is_untrained_teacher = depth > 0 and overrides.initial_weights and overrides == untrained
    if not overrides.epochs_factor and not is_untrained_teacher:
        raise InputError("'@epochs=0' is only valid for a teacher that is not trained: (SPEC@init=FILE@epochs=0)")
    return overrides


def _values_by_name(settings: list[str]) -> dict[str, str]:
    """Return the value of each setting by its name, "" for a flag."""
    values: dict[str, str] = {}
    for setting in settings:
        name, _, value = setting.partition("=")
        if name not in SETTING_NAMES:
            raise unknown("setting", name, SETTING_NAMES, f" in {'@' + setting!r}")
        if name in values:
            raise InputError(f"'@{name}' is given twice in {'@' + '@'.join(settings)!r}")
        if bool(value) == (name in FLAG_SETTINGS):
            raise InputError(f"'@{name}' takes {'no' if name in FLAG_SETTINGS else 'a'} value")
        values[name] = value
    return values


def _read_distillation(
    values: dict[str, str], baseline: str | None, depth: int, allow_sources: bool
) -> Distillation | None:
    if "teacher" not in values:
        if orphans := [name for name in TEACHER_SETTINGS if name in values]:
            raise InputError(f"'@{orphans[0]}' needs a '@teacher='")
        return None
    teacher = _read_teacher(values["teacher"], baseline, depth, allow_sources)
    method = _read_method(values.get("method", "kd"))
    _check_combination(values, method, teacher)
    numbers = _read_numbers(values, method, teacher)
    return Distillation(
        teacher,
        temperature=numbers.get("T", Distillation.temperature),
        alpha=numbers.get("alpha", Distillation.alpha),
        growing="growing" in values,
        hard="hard" in values,
        method=method,
        beta=numbers.get("beta", Distillation.beta),
        standardize="standardize" in values,
    )


def _read_method(text: str) -> DistillationMethod:
    for method in NUMBER_SETTINGS:
        if method == text:
            return method
    raise unknown("distillation method", text, NUMBER_SETTINGS, f" in {'@method=' + text!r}")


def _check_combination(
    values: Mapping[str, str], method: DistillationMethod, teacher: RunConfig | TeacherStandIn
) -> None:
    """Raise InputError if a setting of the distillation loss has no effect or no meaning with the others."""
    changes_logits = method != "kd" or "standardize" in values
    if "hard" in values and ("T" in values or teacher == UNIFORM or changes_logits):
        raise InputError(
            "'@hard' uses the class that a network predicts: it excludes '@T', '@teacher=uniform', '@method' and "
            "'@standardize'"
        )
    if teacher == UNIFORM and changes_logits:
        raise InputError("'@teacher=uniform' is label smoothing: it excludes '@method' and '@standardize'")
    if method == "at" and "standardize" in values:
        raise InputError("'@standardize' changes logits, which '@method=at' does not use: remove one of them")
    valid = NUMBER_SETTINGS[method]
    if unused := [name for name in NUMBER_NAMES if name in values and name not in valid]:
        raise InputError(f"'@{unused[0]}' has no effect with '@method={method}', which uses {' and '.join(valid)}")


def _read_numbers(
    values: Mapping[str, str], method: DistillationMethod, teacher: RunConfig | TeacherStandIn
) -> dict[str, float]:
    """Return the numbers of the distillation loss by name, with the method's defaults for those that are not set."""
    settings = number_settings(method, "standardize" in values)
    texts = {name: format_number(setting.default) for name, setting in settings.items()}
    if teacher == UNIFORM:
        texts["T"] = "1"  # the usual label smoothing
    texts |= {name: values[name] for name in settings if name in values}
    numbers = {
        name: parse_number(f"@{name}", texts[name], setting.minimum, setting.maximum)
        for name, setting in settings.items()
    }
    if not numbers.get("alpha") and not numbers.get("beta"):
        raise InputError("'@alpha=0@beta=0' leaves nothing of the distillation loss: set one of them above 0")
    return numbers


def _read_teacher(text: str, baseline: str | None, depth: int, allow_sources: bool) -> RunConfig | TeacherStandIn:
    if text in STAND_INS:
        return STAND_INS[text]
    if _is_nested(text):
        return _read_nested(text, baseline, depth, allow_sources)
    raise InputError(
        f"{'@teacher=' + text!r} must be previous, uniform or a network in parentheses, such as @teacher=(resnet20)"
    )


def _read_initial_run(text: str, baseline: str | None, depth: int, allow_sources: bool) -> RunConfig | None:
    """Return the run that training starts from; None if the text names no run."""
    if not _is_nested(text):
        return None
    run = _read_nested(text, baseline, depth, allow_sources)
    if not run.is_trained:
        raise InputError(f"'@init={text}' names a run without training: use @init={run.overrides.initial_weights}")
    return run


def _is_nested(text: str) -> bool:
    return text.startswith("(") and text.endswith(")")


def _read_nested(text: str, baseline: str | None, depth: int, allow_sources: bool) -> RunConfig:
    """Read a config in parentheses. Raises InputError if it is invalid or nested too deep."""
    if depth == MAX_NESTING_DEPTH:
        raise InputError(f"a chain of teachers and initial runs has more than {MAX_NESTING_DEPTH} configs")
    return read_run_config(text[1:-1], baseline, depth + 1, allow_sources=allow_sources)


def _read_fraction(name: str, text: str, maximum: int, allow_zero: bool = False) -> Fraction:
    is_valid = re.fullmatch(r"[0-9]{1,10}(/[0-9]{1,7})?|[0-9]{1,6}\.[0-9]{1,6}", text)
    try:
        number = Fraction(text) if is_valid else None
    except ZeroDivisionError:
        number = None
    if number is None or not (0 <= number <= maximum) or (not number and not allow_zero):
        bound = "at least 0" if allow_zero else "greater than 0"
        raise InputError(f"{f'@{name}={text}'!r}: {name} must be {bound} and at most {maximum}, such as 1/4 or 0.25")
    return number


def parse_number(name: str, text: str, minimum: float, maximum: float) -> float:
    """Parse a non-negative decimal number without an exponent.

    Args:
        name: The name of the setting, for the error message.
        text: The number.
        minimum: The smallest valid number.
        maximum: The largest valid number.

    Raises:
        InputError: If the text is not a number in this range.
    """
    number = float(text) if re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,6})?", text) else -1.0
    if not minimum <= number <= maximum:
        raise InputError(f"{f'{name}={text}'!r}: {name.removeprefix('@')} must be from {minimum:g} to {maximum:g}")
    return number


def _read_layers(text: str) -> tuple[str, ...]:
    names = text.split(":") if text else []
    if not all(map(LAYER_NAME.fullmatch, names)):
        raise InputError(f"{'@freeze=' + text!r} must be layer names separated by ':', such as @freeze=stem:layer1")
    return tuple(sorted(set(names)))


def _read_weights(values: dict[str, str], allow_sources: bool) -> str:
    text = values.get("init", "")
    if allow_sources:
        text = text.strip()
        if "init" in values and not text:
            raise InputError("'@init' takes a value")
    elif text and not WEIGHTS_DIGEST.fullmatch(text):
        raise InputError(f"{'@init=' + text!r} is not the digest of a weights file (16 hexadecimal digits)")
    return text
