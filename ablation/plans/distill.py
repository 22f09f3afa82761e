"""The rows of a distillation study: who learns from whom, beside what either learns alone, and controls.

    distill(T=4, alpha=0.9, growing, hard, smooth=0.1, progressive):TEACHER>STUDENT

Known pairs on CIFAR-100 with T = 4 and alpha = 0.9 (Tian et al. 2020, arXiv:1910.10699): resnet56 to resnet20 69.06 to
70.66, wrn40-2 to wrn16-2 73.26 to 74.92. From student to teacher, and from a net to itself: Yuan et al. 2020,
arXiv:1909.11723. Knows no torch.
"""

from dataclasses import replace
from fractions import Fraction

from ablation.plans.row import Row
from arch.errors import InputError, unknown
from benchmarks.definition.benchmark import Benchmark
from benchmarks.definition.overrides import (
    MOST_EPOCHS,
    PREVIOUS,
    UNIFORM,
    Distillation,
    RunConfig,
    TeacherStandIn,
    read_number,
    read_overrides,
    split_outside,
    written,
)

SMOOTHING = 0.1  # of the control, beside the recipe's own
OWN_ALPHA = 0.8  # of progressive self-distillation, in its last epoch: Kim et al. 2021, arXiv:2006.12000
ARGUMENTS = ("T", "alpha", "growing", "hard", "smooth", "progressive")


def distill_rows(text: str, arguments: list[str], benchmark: Benchmark) -> list[Row]:
    """Each taught net is compared with the same net trained alone, and the controls with the taught student."""
    teacher, student = _read_nets(text, benchmark)
    settings, smooth, progressive = _read(arguments)
    alone = teacher if teacher.is_trained else RunConfig(teacher.spec)
    taught, same = _taught(student, teacher, settings), alone.key == student.key
    first, second = str(alone), str(student)
    who = first if teacher.is_trained else f"{first} of {teacher.overrides.weights[:6]}"
    rows = [Row(second, student)]
    if not same:
        rows.append(Row(first, alone))
    rows.append(Row(f"{who} → {second}", taught, ((0, -1),)))
    rows += _controls(student, smooth, alone.overrides.epochs, ((len(rows) - 1, -1),))
    rows.append(Row(f"{who} → {second} → {second}", _taught(student, taught, settings), ((0, -1),)))
    if not same:
        rows.append(Row(f"{second} → {first}", _taught(alone, student, settings), ((1, -1),)))
    if progressive:
        own = Distillation(PREVIOUS, 1.0, OWN_ALPHA, growing=True)
        rows.append(Row(f"{second} → itself", _taught(student, PREVIOUS, own), ((0, -1),)))
    return rows


def _controls(student: RunConfig, smooth: float, more: Fraction, beside: tuple[tuple[int, int], ...]) -> list[Row]:
    """What a teacher has to beat: smoother labels, and the epochs that it takes itself."""
    epochs = (student.overrides.epochs + more).limit_denominator(9_999_999)  # as it can be read again
    if epochs > MOST_EPOCHS:
        raise InputError(f"a student trained as long as both nets takes {epochs} times the epochs: over {MOST_EPOCHS}")
    smoothed = _taught(student, UNIFORM, Distillation(UNIFORM, 1.0, smooth))
    longer = RunConfig(student.spec, replace(student.overrides, epochs=epochs))
    return [
        Row(f"~smooth={written(smooth)}", smoothed, beside, kind="alternative"),
        Row(f"~epochs={epochs}", longer, beside, kind="alternative"),
    ]


def _read_nets(text: str, benchmark: Benchmark) -> tuple[RunConfig, RunConfig]:
    words = split_outside(text, ">")
    if len(words) != 2:
        raise InputError(f"{'distill:' + text!r} is not distill:TEACHER>STUDENT, in quotes, as > is the shell's too")
    teacher, student = (_untaught(word.strip(), benchmark) for word in words)
    if not student.is_trained:
        raise InputError(f"the student {student} is not trained with '@epochs=0'")
    return teacher, student


def _untaught(word: str, benchmark: Benchmark) -> RunConfig:
    """One of the two; a teacher's weights may be taken as they are."""
    inside = read_overrides([f"teacher=({word})"], benchmark.baseline).teacher
    assert inside is not None
    if inside.overrides.distillation:
        raise InputError(f"{word!r} has a teacher already: distill names both nets as they are trained alone")
    return inside


def _taught(config: RunConfig, teacher: RunConfig | TeacherStandIn, settings: Distillation) -> RunConfig:
    return RunConfig(config.spec, replace(config.overrides, distillation=replace(settings, teacher=teacher)))


def _read(arguments: list[str]) -> tuple[Distillation, float, bool]:
    """(the settings of all rows, the control's smoothing, whether a row learns from itself)."""
    given: dict[str, str] = {}
    for word in arguments:
        name = word.partition("=")[0]
        if name not in ARGUMENTS:
            raise unknown("setting", name, ARGUMENTS, " of distill")
        if name in given:
            raise InputError(f"{name!r} stands twice in the brackets of distill")
        given[name] = word
    smooth = given.pop("smooth", f"smooth={written(SMOOTHING)}").partition("=")[2]
    progressive = given.pop("progressive", "")
    if "=" in progressive:
        raise InputError("'progressive' of distill takes no value")
    found = read_overrides([f"teacher={PREVIOUS}", *given.values()]).distillation
    assert found is not None
    return found, read_number("smooth", smooth, 0.001, 0.999), bool(progressive)


def distill_plan(
    teacher: str, student: str, temperature: float, alpha: float, growing: bool, hard: bool, smooth: float, more: bool
) -> str:
    """The plan as text, with the settings that are not the default."""
    default = Distillation(UNIFORM)
    words = [f"T={written(temperature)}"] * (temperature != default.temperature)
    words += [f"alpha={written(alpha)}"] * (alpha != default.alpha)
    words += ["growing"] * growing + ["hard"] * hard
    words += [f"smooth={written(smooth)}"] * (smooth != SMOOTHING) + ["progressive"] * more
    brackets = f"({','.join(words)})" if words else ""
    return f"distill{brackets}:{teacher}>{student}"
