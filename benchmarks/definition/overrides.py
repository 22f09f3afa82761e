"""`TrainingOverrides`: what a row of a study may change beside its architecture, as text and as data. Knows no torch.

    config   = spec, { "@", setting }
    setting = data=FRACTION | epochs=FACTOR | updates | init=WEIGHTS | freeze=LAYER{:LAYER}
            | teacher=(config) | teacher=previous | teacher=uniform | T=TEMPERATURE | alpha=SHARE | growing | hard

`resnet8@data=1/4` learns from a quarter of the images, `resnet8@teacher=(resnet20)@T=2` from resnet20 too. The recipe
itself is no setting: nothing here can change a learning rate.
"""

import hashlib
import re
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import Literal

from arch.errors import InputError, unknown
from arch.spec import Architecture, Spec, parse
from benchmarks.definition.recipe import Recipe

TeacherStandIn = Literal["previous", "uniform"]  # what stands for a teacher that is no other net
PREVIOUS: TeacherStandIn = "previous"
UNIFORM: TeacherStandIn = "uniform"
HUB = "hub"  # in a plan: timm's own weights of the model that it stands behind; hub:TAG for others than the default
DIGEST = re.compile(r"[0-9a-f]{16}")  # of a weights file: see benchmarks.training.weights.digest_of
LAYER = re.compile(r"[A-Za-z0-9_.]+")
MOST_EPOCHS = 100  # times the recipe's
DEEPEST = 5  # teachers of teachers


@dataclass(frozen=True)
class Distillation:
    """What a net learns from beside the labels: see `benchmarks.training.distillation`."""

    teacher: "RunConfig | TeacherStandIn"  # itself one epoch ago; all classes alike (label smoothing)
    temperature: float = 4.0
    alpha: float = 0.9  # the teacher's share of the loss
    growing: bool = False  # from alpha / epochs in the first epoch to alpha in the last
    hard: bool = False  # the class that the teacher takes an image for, in place of its probabilities

    def __str__(self) -> str:
        return self.text(self.teacher if isinstance(self.teacher, str) else f"({self.teacher})")

    def text(self, teacher: str) -> str:
        """The settings with this word for the teacher."""
        words = f"@teacher={teacher}"
        words += f"@T={written(self.temperature)}" if self.temperature != Distillation.temperature else ""
        words += f"@alpha={written(self.alpha)}" if self.alpha != Distillation.alpha else ""
        return words + "@growing" * self.growing + "@hard" * self.hard


@dataclass(frozen=True)
class TrainingOverrides:
    """Beside the architecture; the default is the recipe as it is."""

    fraction: Fraction = Fraction(1)  # of each class's training images, the first in their fixed order
    epochs: Fraction = Fraction(1)  # times the recipe's; 0: a teacher's weights as they are
    weights: str = ""  # digest of the initial weights; in a plan that is not resolved yet, their source; "": fresh ones
    frozen: tuple[str, ...] = ()  # layers that are not trained, sorted
    updates: bool = False  # as many as on all images, and so more epochs on a part of them
    distillation: Distillation | None = None

    def __str__(self) -> str:
        return self.beside_teacher() + (str(self.distillation) if self.distillation else "")

    def beside_teacher(self) -> str:
        """The settings but those of its teacher."""
        words = f"@data={self.fraction}" if self.fraction != 1 else ""
        words += f"@epochs={self.epochs}" if self.epochs != 1 else ""
        words += "@updates" * self.updates
        words += f"@init={self.weights}" if self.weights else ""
        return words + (f"@freeze={':'.join(self.frozen)}" if self.frozen else "")

    @property
    def teacher(self) -> "RunConfig | None":
        """The other net that it learns from."""
        return (
            self.distillation.teacher
            if self.distillation and isinstance(self.distillation.teacher, RunConfig)
            else None
        )

    @property
    def needs_looking(self) -> bool:
        """Whether it names weights from elsewhere, or layers, that may not be those of the net."""
        as_it_is = self.teacher is not None and not self.teacher.is_trained
        return bool(self.weights or self.frozen) or as_it_is

    def images(self, there: int, classes: int) -> int:
        """How many it trains on, of so many in all, of as many in each class."""
        return there if self.fraction == 1 else classes * max(1, round(self.fraction * Fraction(there, classes)))

    def recipe(self, recipe: Recipe, images: int = 0, all_images: int = 0) -> Recipe:
        """The recipe over this overrides's epochs, with the same share of warm-up; nothing else can be another.

        images: to train on, and how many there are in all, which equal updates depend on. Raises InputError for too
        many epochs.
        """
        times = self.epochs
        if self.updates:
            times *= Fraction(max(1, all_images // recipe.batch_size), max(1, images // recipe.batch_size))
        if times > MOST_EPOCHS:
            raise InputError(
                f"as many updates on {images} images are {float(times):g} times the epochs: over {MOST_EPOCHS}"
            )
        if times == 1:
            return recipe
        epochs = max(1, round(recipe.epochs * times))
        return replace(recipe, epochs=epochs, warmup_epochs=min(epochs - 1, round(recipe.warmup_epochs * times)))


PLAIN = TrainingOverrides()


@dataclass(frozen=True)
class RunConfig:
    """What is trained: an architecture and its overrides."""

    spec: Spec
    overrides: TrainingOverrides = PLAIN

    def __str__(self) -> str:
        return f"{self.spec}{self.overrides}"

    @property
    def architecture(self) -> Architecture:
        """What its spec describes."""
        return self.spec.architecture

    @cached_property
    def key(self) -> str:
        """See `config_key`."""
        return config_key(self.architecture, self.overrides)

    @property
    def is_trained(self) -> bool:
        """False for a teacher that is taken as it is."""
        return self.overrides.epochs > 0

    @property
    def generation(self) -> int:
        """How many trainings, one after the other, it waits for."""
        teacher = self.overrides.teacher
        return 1 + teacher.generation if teacher and teacher.is_trained else 0


def config_key(architecture: Architecture, overrides: TrainingOverrides = PLAIN) -> str:
    """A hash of what is trained, equal everywhere; of a plain overrides that of the architecture."""
    if overrides == PLAIN:
        return architecture.key()
    words, taught = overrides.beside_teacher(), overrides.distillation
    if taught:
        words += taught.text(taught.teacher if isinstance(taught.teacher, str) else taught.teacher.key)
    return f"{architecture.key()}-{hashlib.sha256(words.encode()).hexdigest()[:8]}"


def split_settings(text: str) -> tuple[str, list[str]]:
    """`resnet8@data=1/4` as its spec and its settings; what stands in brackets is not looked into."""
    spec, *settings = split_outside(text, "@")
    return spec, settings


def split_outside(text: str, sign: str) -> list[str]:
    """The parts of `text` between signs that stand in no brackets. Raises InputError where these do not match."""
    parts, depth, start = list[str](), 0, 0
    for place, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if depth < 0:
            break
        if letter == sign and depth == 0:
            parts.append(text[start:place])
            start = place + 1
    if depth:
        raise InputError(f"the brackets in {text!r} do not match")
    return [*parts, text[start:]]


def read_run_config(
    text: str, baseline: str | None = None, depth: int = 0, *, allow_sources: bool = False
) -> RunConfig:
    """Reads a config. baseline: see `arch.spec.parse`. depth: how many nets it teaches, one behind the other.

    allow_sources: accept a source of weights (a file, hub or hub:TAG) where otherwise only a digest is valid.
    Raises InputError in one line.
    """
    spec, settings = split_settings(text)
    return RunConfig(parse(spec, baseline), read_overrides(settings, baseline, depth, allow_sources=allow_sources))


def read_overrides(
    settings: list[str], baseline: str | None = None, depth: int = 0, *, allow_sources: bool = False
) -> TrainingOverrides:
    """Reads settings. Raises InputError naming the valid ones."""
    given: dict[str, str] = {}
    for setting in settings:
        name, _, value = setting.partition("=")
        if allow_sources and name == "init":
            value = value.strip()
        if name not in SETTINGS:
            raise unknown("setting", name, SETTINGS, f" in {'@' + setting!r}")
        if name in given:
            raise InputError(f"'@{name}' stands twice in {'@' + '@'.join(settings)!r}")
        if bool(value) == (name in FLAGS):
            raise InputError(f"'@{name}' takes {'no' if name in FLAGS else 'a'} value")
        given[name] = value
    overrides = TrainingOverrides(
        fraction=_fraction("data", given.get("data", "1"), 1),
        epochs=_fraction("epochs", given.get("epochs", "1"), MOST_EPOCHS, zero=True),
        weights=given.get("init", "") if allow_sources else _weights_digest(given.get("init", "")),
        frozen=_layers(given.get("freeze", "")),
        updates="updates" in given,
        distillation=_distillation(given, baseline, depth, allow_sources),
    )
    as_it_is = TrainingOverrides(epochs=Fraction(0), weights=overrides.weights)
    if not overrides.epochs and (depth == 0 or not overrides.weights or overrides != as_it_is):
        raise InputError("'@epochs=0' is for a teacher whose weights are taken as they are: (SPEC@init=FILE@epochs=0)")
    return overrides


STANDS: dict[str, TeacherStandIn] = {PREVIOUS: PREVIOUS, UNIFORM: UNIFORM}
OF_TEACHER = ("T", "alpha", "growing", "hard")
FLAGS = ("updates", "growing", "hard")
SETTINGS = ("data", "epochs", "updates", "init", "freeze", "teacher", *OF_TEACHER)


def _distillation(given: dict[str, str], baseline: str | None, depth: int, allow_sources: bool) -> Distillation | None:
    word = given.get("teacher", "")
    if not word:
        if lonely := [name for name in OF_TEACHER if name in given]:
            raise InputError(f"'@{lonely[0]}' needs a '@teacher='")
        return None
    if depth == DEEPEST:
        raise InputError(f"more than {DEEPEST} teachers stand one behind the other")
    teacher: RunConfig | TeacherStandIn
    if word in STANDS:
        teacher = STANDS[word]
    elif word.startswith("(") and word.endswith(")"):
        teacher = read_run_config(word[1:-1], baseline, depth + 1, allow_sources=allow_sources)
    else:
        raise InputError(
            f"{'@teacher=' + word!r} is not previous, uniform or a net in brackets, as @teacher=(resnet20)"
        )
    if "hard" in given and ("T" in given or teacher == UNIFORM):
        raise InputError("'@hard' takes a net's answers: it knows no '@T', and '@teacher=uniform' has none")
    usual = 1.0 if teacher == UNIFORM else Distillation.temperature  # 1: label smoothing as it is known
    return Distillation(
        teacher,
        temperature=read_number("@T", given.get("T", written(usual)), 0.1, 100),
        alpha=read_number("@alpha", given.get("alpha", written(Distillation.alpha)), 0.000001, 1),
        growing="growing" in given,
        hard="hard" in given,
    )


def _fraction(name: str, text: str, most: int, zero: bool = False) -> Fraction:
    valid = re.fullmatch(r"[0-9]{1,10}(/[0-9]{1,7})?|[0-9]{1,6}\.[0-9]{1,6}", text)
    try:
        number = Fraction(text) if valid else None
    except ZeroDivisionError:
        number = None
    if number is None or not (0 <= number <= most) or (not number and not zero):
        above = "from" if zero else "above"
        raise InputError(f"{f'@{name}={text}'!r} is not a number {above} 0 up to {most}, such as 1/4 or 0.25")
    return number


def read_number(name: str, text: str, least: float, most: float) -> float:
    """Without exponents. Raises InputError with the name."""
    number = float(text) if re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,6})?", text) else -1.0
    if not least <= number <= most:
        raise InputError(f"{f'{name}={text}'!r} is not a number from {least:g} to {most:g}")
    return number


def written(number: float) -> str:
    """As `read_number` reads it."""
    return f"{number:.6f}".rstrip("0").removesuffix(".")


def _layers(text: str) -> tuple[str, ...]:
    names = text.split(":") if text else []
    if not all(map(LAYER.fullmatch, names)):
        raise InputError(
            f"{'@freeze=' + text!r} is not layers' names with ':' between them, such as @freeze=stem:layer1"
        )
    return tuple(sorted(set(names)))


def _weights_digest(text: str) -> str:
    if text and not DIGEST.fullmatch(text):
        raise InputError(f"{'@init=' + text!r} is not the digest of weights, 16 hexadecimal digits")
    return text
