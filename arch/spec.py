"""The spec language: parse `baseline+se-se+cbam` into steps and variants.

    spec  = base, { ("+" | "-"), part, [ "=", value ] }
    base  = a name in BASES, or of another wide ResNet or PyramidNet, such as wrn22_10 or pyramidnet164_a270
          | a name in PLANS, which stands for the base and the steps of that plan
          | "timm/", a timm model name, [ ".", tag ], [ "/", pixels ], which accepts no parts
          | the name of a plugin's network, [ "/", pixels ], which accepts the parts that it has parameters for
    part  = a name in PARTS; "-part" removes an earlier "+part"

A class or function of a Python file is named as `my_net.py:MyNet`, wherever a base, a part or a value is (see
`arch.plugins`). A tag names pretrained weights in timm. It does not change the architecture, and only `@init=hub`
uses it.

Each row of a sequential ablation is the previous row with one more step.
"""

import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache, reduce

from arch.bases import BASES, find_base
from arch.entries import FILE_AND_NAME, NETWORKS
from arch.errors import InputError, unknown
from arch.layers import without_folder
from arch.networks import apply_to_network
from arch.parts import PARTS
from arch.plans import PLANS
from arch.plugins import describe_error
from arch.timm_model import TimmModel
from arch.variant import Variant

Architecture = Variant | TimmModel

EMPTY = Variant((1,), (8,), (1,), stem_width=8, act="")  # stands for a network's defaults while parts are applied to it
MAX_STEPS = 100
WORD = re.compile(rf"{FILE_AND_NAME.pattern}(?:/[0-9]+)?|[A-Za-z0-9_./]*")
TIMM_PREFIX = "timm/"
NETWORK = re.compile(r"(?P<name>.*?)(?P<slash>/(?P<size>[0-9]{1,4}))?")
TIMM = re.compile(r"timm/(?P<name>[A-Za-z0-9_]+)(?:\.(?P<tag>[A-Za-z0-9_.]+))?(?P<slash>/(?P<size>[0-9]{1,4}))?")
MIN_INPUT_PIXELS, MAX_INPUT_PIXELS = 16, 1024  # side length of the input of a timm model
STEP = re.compile(r"(?P<sign>[+-])(?P<part>[^+\-=]*)(?:=(?P<value>[0-9.]+[eE][+-]?[0-9]+|[^+\-=]*))?")
FILE = FILE_AND_NAME.pattern
STEP_WITH_FILE = re.compile(rf"(?P<sign>[+-])(?P<part>{FILE}|[^+\-=]*)(?:=(?P<value>{FILE}|[^+\-=]*))?")


@dataclass(frozen=True)
class Step:
    """One change of an architecture, such as `+drop_path=0.1` or `-se`."""

    sign: str
    part: str
    value: float | int | str | None = None

    def __str__(self) -> str:
        value_type = PARTS[self.part].value
        if self.value is None or (value_type is not None and self.value == value_type.default):
            return f"{self.sign}{self.part}"
        value = self.value if isinstance(self.value, str) else str(self.value).removesuffix(".0")
        return f"{self.sign}{self.part}={value}"


@dataclass(frozen=True)
class Spec:
    """A base and a sequence of steps. The first `start` steps belong to the first row.

    The tag of a timm model's pretrained weights is kept beside the base, because it is not part of the architecture.
    """

    base: str
    steps: tuple[Step, ...] = ()
    start: int = 0
    tag: str = field(default="", compare=False)

    def __str__(self) -> str:
        return self.base + "".join(map(str, self.steps))

    @property
    def architecture(self) -> Architecture:
        """The timm model, the network or the variant that this spec describes. Raises InputError like `variant`."""
        timm = TIMM.fullmatch(self.base)
        if timm is not None and not self.steps:
            return TimmModel(timm["name"], int(timm["size"] or 0))
        return self.variant() if timm is not None or find_base(self.base) is not None else self._network()

    def _network(self) -> TimmModel:
        match = NETWORK.fullmatch(self.base)
        assert match is not None
        if match["name"] not in NETWORKS:
            raise InputError(f"{self.base!r} is not a base or a network; bases: {', '.join(BASES)}")
        network, parts = NETWORKS[match["name"]], reduce(_apply, self.active_steps(), EMPTY)
        settings = apply_to_network(match["name"], network, parts, EMPTY)
        return TimmModel(without_folder(match["name"]), int(match["size"] or 0), network.plugin.digest, settings)

    def variant(self) -> Variant:
        """Return the architecture after all steps.

        Raises:
            InputError: If a step does not fit the base, or the base is a timm model.
        """
        base = find_base(self.base)
        if base is None:
            raise InputError(f"{self.base!r} takes no parts; bases that do: {', '.join(BASES)}")
        return reduce(_apply, self.active_steps(), base.variant).with_versions()

    def active_steps(self) -> list[Step]:
        """Return the added steps that were not removed later."""
        active: list[Step] = []
        for step in self.steps:
            if step.sign == "+":
                active.append(step)
            else:
                active = [earlier for earlier in active if earlier.part != step.part]
        return active

    def simplified(self) -> "Spec":
        """Return a spec of the same architecture without the steps that change nothing at their position."""
        kept = Spec(self.base)
        for step in self.steps:
            longer = Spec(self.base, (*kept.steps, step))
            if longer.architecture != kept.architecture:
                kept = longer
        return kept

    def path(self) -> list["Spec"]:
        """Return the specs of a sequential ablation: the first row, then one per step."""
        lengths = range(self.start, len(self.steps) + 1)
        return [replace(self, steps=self.steps[:length], start=min(self.start, length)) for length in lengths]


def _apply(variant: Variant, step: Step) -> Variant:
    return _change(PARTS[step.part].apply, variant, step)


@lru_cache(maxsize=4096)  # a search applies the same steps many times
def _change(apply: Callable[..., Variant], variant: Variant, step: Step) -> Variant:
    arguments = () if step.value is None else (step.value,)
    try:
        changed = apply(variant, *arguments)
    except ValueError as error:
        raise InputError(f"{str(step)!r} does not fit: {error}") from error
    except Exception as error:
        if apply.__module__.startswith("arch."):
            raise
        raise InputError(f"{str(step)!r} failed: {describe_error(error)}") from error
    if not isinstance(changed, Variant):
        raise InputError(f"{str(step)!r} returns {type(changed).__name__}, not Variant")
    return changed


def parse(text: str, baseline: str | None = None) -> Spec:
    """Parse a spec.

    Args:
        text: A spec such as `resnet18+width=2+drop_path=0.1`.
        baseline: The spec that the word `baseline` stands for; None if there is no benchmark to define it.

    Returns:
        The parsed spec, whose architecture has been checked.

    Raises:
        InputError: If the spec is invalid. The message names the word, its position (counted from 1) and the closest
            valid name.
    """
    if not text.strip():
        raise InputError("empty spec: give a base and parts, such as baseline+se+cbam")
    word = WORD.match(text).group()  # type: ignore[union-attr]  # the pattern matches the empty string
    if word == "baseline" and baseline is not None:
        first = parse(baseline)
        spec = Spec(first.base, first.steps, len(first.steps))
    elif word in PLANS:
        spec = parse(PLANS[word].spec)
    elif find_base(word) is not None:
        spec = Spec(word)
    elif word.startswith(TIMM_PREFIX):
        spec = _parse_timm(word)
    elif NETWORK.fullmatch(word)["name"] in NETWORKS:  # type: ignore[index]  # the pattern matches any word
        _check_size(word, NETWORK.fullmatch(word)["size"])  # type: ignore[index]
        spec = Spec(word)
    else:
        names = [*BASES, *NETWORKS, *PLANS, *(["baseline"] if baseline is not None else [])]
        raise _unknown("base", word, names, f" at character 1 of {text!r}")
    position = len(word)
    while position < len(text):
        step, end = _parse_step(text, position)
        _check_repeat(spec, step, f" at character {position + 2} of {text!r}")
        spec = replace(spec, steps=(*spec.steps, step))
        if len(spec.steps) > MAX_STEPS:
            raise InputError(f"the spec has more than {MAX_STEPS} steps")
        _ = spec.architecture  # raises InputError if the step does not fit
        position = end
    return spec


def parse_steps(text: str) -> tuple[Step, ...]:
    """Parse steps without a base, such as `+se+width=2`, and fill in the default values of their parts.

    Raises:
        InputError: If a step is invalid. Whether it fits a base is not checked.
    """
    steps, position = list[Step](), 0
    while position < len(text):
        step, position = _parse_step(text, position)
        steps.append(step)
    return tuple(steps)


def _parse_timm(word: str) -> Spec:
    """Parse a timm model. Its name is looked up when the model is built, since importing timm takes seconds."""
    match = TIMM.fullmatch(word)
    if match is None:
        raise InputError(
            f"{word!r} is not timm/NAME or timm/NAME/PIXELS, such as timm/resnet18/224; NAME may end with a tag"
        )
    _check_size(word, match["size"])
    return Spec(f"{TIMM_PREFIX}{match['name']}{match['slash'] or ''}", tag=match["tag"] or "")


def _check_size(word: str, size: str | None) -> None:
    if size and not MIN_INPUT_PIXELS <= int(size) <= MAX_INPUT_PIXELS:
        raise InputError(f"{word!r}: the input size must be {MIN_INPUT_PIXELS} to {MAX_INPUT_PIXELS} pixels")


def _parse_step(text: str, position: int) -> tuple[Step, int]:
    """Parse the step that starts at `position` and return it with the position of its end."""
    match = _match_step(text, position)
    if match is None:
        raise InputError(f"expected '+part' or '-part' at character {position + 1} of {text!r}")
    name, value, where = match["part"], match["value"], f" at character {position + 2} of {text!r}"
    if not name:
        raise InputError(f"missing part name{where}; valid names: {', '.join(sorted(PARTS))}")
    if name not in PARTS:
        raise _unknown("part", name, PARTS, where)
    value_type = PARTS[name].value
    if match["sign"] == "-" and value is not None:
        raise InputError(f"'-{name}'{where} takes no value")
    if match["sign"] == "-":
        return Step("-", name), match.end()
    if value_type is None:
        if value is not None:
            raise InputError(f"part {name!r}{where} takes no value")
        return Step("+", name), match.end()
    try:
        return Step("+", name, value_type.default if value is None else value_type.parse(value)), match.end()
    except InputError as error:
        raise InputError(f"part {name!r}{where}: {error}") from error


def _unknown(kind: str, name: str, valid: Iterable[str], where: str) -> InputError:
    """Return the error for a name that does not exist, but may be that of a plugin in the current folder."""
    if name and os.path.isfile(f"{name}.py"):  # False for a name that no file can have
        return InputError(f"unknown {kind} {name!r}{where}: to load {name}.py, add --plugin {name}.py")
    return unknown(kind, name, valid, where)


def _match_step(text: str, position: int) -> re.Match[str] | None:
    """Match a step. A "-" belongs to the name of a file only if that file was loaded; otherwise it removes a part."""
    match = STEP_WITH_FILE.match(text, position)
    if match is not None and match["part"] in PARTS:
        value = PARTS[match["part"]].value
        names = (match["part"], *(value.choices if value is not None else ()))
        if any(FILE_AND_NAME.fullmatch(word or "") and word in names for word in match.group("part", "value")):
            return match
    return STEP.match(text, position)


def _check_repeat(spec: Spec, step: Step, where: str) -> None:
    """Reject a part that is added twice, and one that is removed without having been added."""
    last = next((earlier.sign for earlier in reversed(spec.steps) if earlier.part == step.part), "-")
    if step.sign == "+" and last == "+":
        raise InputError(f"cannot add {step.part!r}{where}: it was already added; remove it with '-{step.part}' first")
    if step.sign == "-" and last == "-":
        raise InputError(f"cannot remove {step.part!r}{where}: it was not added")
