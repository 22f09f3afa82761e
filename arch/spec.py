"""The spec language: `baseline+se-se+cbam` to steps, rows and variants. Knows no torch.

    spec  = base, { ("+" | "-"), part, [ "=", value ] }
    base  = a name of BASES; or one of PLANS, which stands for its own base and steps;
            or "timm/", a name of timm's, [ "/", pixels ], which takes no parts
    part  = a name of PARTS; "-part" takes back an earlier "+part"

Each row of an ablation is the row before with one step applied.
"""

import re
from dataclasses import dataclass
from functools import reduce

from arch.bases import BASES
from arch.errors import InputError, unknown
from arch.parts import PARTS
from arch.plans import PLANS
from arch.timm_model import TimmModel
from arch.variant import Variant

Architecture = Variant | TimmModel

MAX_STEPS = 100
WORD = re.compile(r"[A-Za-z0-9_./]*")
TIMM = re.compile(r"timm/(?P<name>[A-Za-z0-9_.]+)(?:/(?P<size>[0-9]{1,4}))?")
SIZES = (16, 1024)  # pixels that a timm model's input may have
STEP = re.compile(r"(?P<sign>[+-])(?P<part>[^+\-=]*)(?:=(?P<value>[0-9.]+[eE][+-]?[0-9]+|[^+\-=]*))?")


@dataclass(frozen=True)
class Step:
    """One change: `+drop_path=0.1` or `-se`."""

    sign: str
    part: str
    value: float | int | str | None = None

    def __str__(self) -> str:
        takes = PARTS[self.part].value
        if self.value is None or (takes is not None and self.value == takes.default):
            return f"{self.sign}{self.part}"
        value = self.value if isinstance(self.value, str) else str(self.value).removesuffix(".0")
        return f"{self.sign}{self.part}={value}"


@dataclass(frozen=True)
class Spec:
    """A base and the steps taken from it; the first `start` steps belong to the first row."""

    base: str
    steps: tuple[Step, ...] = ()
    start: int = 0

    def __str__(self) -> str:
        return self.base + "".join(map(str, self.steps))

    @property
    def architecture(self) -> Architecture:
        """What it describes: a model of timm's, or a variant of one of our bases. Raises InputError as `variant`."""
        timm = TIMM.fullmatch(self.base)
        return TimmModel(timm["name"], int(timm["size"] or 0)) if timm else self.variant()

    def variant(self) -> Variant:
        """The architecture after all steps. Raises InputError where a step does not fit the base, or that is timm's."""
        if self.base not in BASES:
            raise InputError(f"{self.base!r} takes no parts: they can be added to our own bases ({', '.join(BASES)})")
        standing: list[Step] = []
        for step in self.steps:
            if step.sign == "+":
                standing.append(step)
            else:
                standing = [earlier for earlier in standing if earlier.part != step.part]
        return reduce(_apply, standing, BASES[self.base].variant)

    def simplified(self) -> "Spec":
        """The same architecture without the steps that change nothing where they stand."""
        kept = Spec(self.base)
        for step in self.steps:
            longer = Spec(self.base, (*kept.steps, step))
            if longer.variant() != kept.variant():
                kept = longer
        return kept

    def path(self) -> list["Spec"]:
        """The rows of the sequential ablation: the first row, then one more for each step."""
        lengths = range(self.start, len(self.steps) + 1)
        return [Spec(self.base, self.steps[:length], min(self.start, length)) for length in lengths]


def _apply(variant: Variant, step: Step) -> Variant:
    arguments = () if step.value is None else (step.value,)
    try:
        return PARTS[step.part].apply(variant, *arguments)
    except ValueError as error:
        raise InputError(f"{str(step)!r} does not fit: {error}") from error


def parse(text: str, baseline: str | None = None) -> Spec:
    """Reads a spec.

    text: such as `resnet18+width=2+drop_path=0.1`.
    baseline: what the word `baseline` stands for, itself a spec; None where there is no benchmark to say so.
    Raises InputError, in one line that names the word, its place (counted from 1) and the nearest valid name.
    """
    if not text.strip():
        raise InputError("empty spec: give a base and parts, such as baseline+se+cbam")
    word = WORD.match(text).group()  # type: ignore[union-attr]  # the pattern matches the empty string
    if word == "baseline" and baseline is not None:
        first = parse(baseline)
        spec = Spec(first.base, first.steps, len(first.steps))
    elif word in PLANS:
        spec = parse(PLANS[word].spec)
    elif word in BASES:
        spec = Spec(word)
    elif word.startswith("timm/"):
        spec = _read_timm(word)
    else:
        names = [*BASES, *PLANS, *(["baseline"] if baseline is not None else [])]
        raise unknown("base", word, names, f" at character 1 of {text!r}")
    place = len(word)
    while place < len(text):
        step, end = _read_step(text, place)
        _check_repeat(spec, step, f" at character {place + 2} of {text!r}")
        spec = Spec(spec.base, (*spec.steps, step), spec.start)
        if len(spec.steps) > MAX_STEPS:
            raise InputError(f"the spec has more than {MAX_STEPS} steps")
        spec.variant()
        place = end
    return spec


def _read_timm(word: str) -> Spec:
    """A model of timm's, whose name is looked up when it is built: that takes seconds."""
    match = TIMM.fullmatch(word)
    if match is None:
        raise InputError(f"{word!r} is not timm/NAME or timm/NAME/PIXELS, such as timm/resnet18/224")
    least, most = SIZES
    if match["size"] and not least <= int(match["size"]) <= most:
        raise InputError(f"{word!r}: the input size must be from {least} to {most} pixels")
    return Spec(word)


def _read_step(text: str, place: int) -> tuple[Step, int]:
    """Reads the step that starts at `place` and returns it with the place where it ends."""
    match = STEP.match(text, place)
    if match is None:
        raise InputError(f"expected '+part' or '-part' at character {place + 1} of {text!r}")
    name, value, where = match["part"], match["value"], f" at character {place + 2} of {text!r}"
    if not name:
        raise InputError(f"a part's name is missing{where}: valid: {', '.join(sorted(PARTS))}")
    if name not in PARTS:
        raise unknown("part", name, PARTS, where)
    takes = PARTS[name].value
    if match["sign"] == "-" and value is not None:
        raise InputError(f"'-{name}'{where} takes no value")
    if match["sign"] == "-":
        return Step("-", name), match.end()
    if takes is None:
        if value is not None:
            raise InputError(f"part {name!r}{where} takes no value")
        return Step("+", name), match.end()
    try:
        return Step("+", name, takes.default if value is None else takes.read(value)), match.end()
    except InputError as error:
        raise InputError(f"part {name!r}{where}: {error}") from error


def _check_repeat(spec: Spec, step: Step, where: str) -> None:
    """A part is added once, and taken back only while it stands."""
    last = next((earlier.sign for earlier in reversed(spec.steps) if earlier.part == step.part), "-")
    if step.sign == "+" and last == "+":
        raise InputError(f"part {step.part!r}{where} is there already: take it back with '-{step.part}' first")
    if step.sign == "-" and last == "-":
        raise InputError(f"part {step.part!r}{where} cannot be taken back: no '+{step.part}' stands before it")
