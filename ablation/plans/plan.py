"""From a plan to the rows of an ablation table. Knows no torch.

    plan        = [ kind, ":" ], spec with alternatives, { "@", setting }
                | "compare:", config, { ",", config }
                | "distill", [ "(", settings, ")" ], ":", config, ">", config      see ablation.plans.distill
                | "datasize(", fractions, ")", ":", config, { ",", config }        see ablation.plans.datasize
    kind        = path | leave-one-out | pairs | reordered
    alternative = "~", part, [ "=", value ]     stands behind a step, in its place, in a row of its own
    config       see benchmarks.definition.overrides; a path's settings are those of all its rows

`baseline+se~eca+cbam` has the rows baseline, +se, ~eca (baseline+eca) and +cbam (baseline+se+cbam). A step is compared
with the row before it, an alternative with the step in whose place it stands.
"""

import re
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations

from ablation.plans.datasize import datasize_rows
from ablation.plans.distill import distill_rows
from ablation.plans.row import Row
from arch.errors import InputError, unknown
from arch.spec import Spec, Step, parse
from benchmarks.definition.benchmark import Benchmark
from benchmarks.definition.overrides import (
    DIGEST,
    RunConfig,
    read_overrides,
    read_run_config,
    split_outside,
    split_settings,
)

KIND = re.compile(r"(?P<kind>[A-Za-z_-]*)(?:\((?P<arguments>[^()]*)\))?:(?P<spec>.*)", re.DOTALL)
ALTERNATIVE = re.compile(r"~(?P<part>[^+\-=~]*(?:=(?:[0-9.]+[eE][+-]?[0-9]+|[^+\-=~]*))?)")


def read_plan(text: str, benchmark: Benchmark) -> list[Row]:
    """The rows of a plan. Raises InputError for one that cannot be read, or a step that changes nothing."""
    match = KIND.fullmatch(text)
    kind, body, arguments = (match["kind"], match["spec"], match["arguments"]) if match else ("path", text, None)
    if kind not in (*PLAN_KINDS, *STUDIES):
        raise unknown("kind of plan", kind, (*PLAN_KINDS, *STUDIES), f" in {text!r}")
    if kind != "path" and "~" in body:
        raise InputError(f"'~' in {text!r}: alternatives stand in a path, not in {kind}")
    if kind in STUDIES:
        return STUDIES[kind](body, [word.strip() for word in (arguments or "").split(",") if word.strip()], benchmark)
    if arguments is not None:
        raise InputError(f"{kind!r} in {text!r} takes nothing in brackets")
    spec, settings = split_settings(body)
    rows, overrides = PLAN_KINDS[kind](spec, benchmark), read_overrides(settings, benchmark.baseline)
    return [replace(row, config=replace(row.config, overrides=overrides)) for row in rows]


def path(text: str, benchmark: Benchmark) -> list[Row]:
    """The sequential ablation that a spec describes: its first row, then one more for each step and alternative."""
    specs = parse(ALTERNATIVE.sub("", text), benchmark.baseline).path()
    alternatives = _alternatives(text, benchmark)
    rows = [_first(specs[0], benchmark)]
    last = 0
    for spec in specs[1:]:
        rows.append(_after(rows, last, str(spec.steps[-1]), spec))
        before, last = last, len(rows) - 1
        for step, alternative in alternatives.get(len(spec.steps), []):
            row = _after(rows, before, f"~{str(step)[1:]}", alternative)
            # is it better than what it stands beside?
            rows.append(replace(row, against=((last, -1),), kind="alternative"))
    return rows


def _alternatives(text: str, benchmark: Benchmark) -> dict[int, list[tuple[Step, Spec]]]:
    """The number of steps after which each alternative stands -> its step and its spec."""
    found: dict[int, list[tuple[Step, Spec]]] = {}
    for match in ALTERNATIVE.finditer(text):
        path = parse(ALTERNATIVE.sub("", text[: match.start()]), benchmark.baseline)
        if len(path.steps) <= path.start:
            raise InputError(f"{match[0]!r} stands in no step's place: write it behind one, as in baseline+se~eca")
        part = match["part"].partition("=")[0]
        before = path.steps[:-1]
        standing = [i for i, earlier in enumerate(before) if (earlier.sign, earlier.part) == ("+", part)]
        place = max(standing, default=None)
        if place is None or any(later.part == part for later in before[place + 1 :]):
            spec = parse(f"{Spec(path.base, before)}+{match['part']}")
            step = spec.steps[-1]
        else:  # it is there already: its new value counts, where it stands
            step = parse(f"{Spec(path.base, before[:place])}+{match['part']}").steps[-1]
            spec = Spec(path.base, (*before[:place], step, *before[place + 1 :]))
        if spec.variant() == path.variant():
            raise InputError(f"{match[0]!r} is what it stands beside: {path}")
        if any(spec.variant() == other.variant() for _, other in found.get(len(path.steps), [])):
            raise InputError(f"{match[0]!r} stands in that step's place already")
        found.setdefault(len(path.steps), []).append((step, spec))
    return found


def leave_one_out(text: str, benchmark: Benchmark) -> list[Row]:
    """The whole proposal first, then it without each of its steps: what each is worth beside all others."""
    whole = parse(text, benchmark.baseline)
    start, steps = _standing(whole, text)
    rows = [Row(str(whole), RunConfig(whole))]
    for step in steps:
        kept = tuple(other for other in steps if other != step)
        row = _after(rows, 0, f"-{str(step)[1:]}", Spec(whole.base, start + kept))
        rows.append(replace(row, kind="without"))
    return rows


def pairs(text: str, benchmark: Benchmark) -> list[Row]:
    """The base, each step alone, and each two of them: a pair's change is what it has beyond the sum of both."""
    whole = parse(text, benchmark.baseline)
    start, steps = _standing(whole, text)
    rows = [_first(Spec(whole.base, start, len(start)), benchmark)]
    for step in steps:
        rows.append(_after(rows, 0, str(step), Spec(whole.base, (*start, step))))
    for (i, one), (j, other) in combinations(enumerate(steps, 1), 2):
        spec = Spec(whole.base, (*start, one, other))
        if any(spec.variant() == rows[alone].config.architecture for alone in (i, j)):
            raise InputError(f"{one} and {other} take each other's place: they have no interaction")
        rows.append(Row(f"{one}{other}", RunConfig(spec), ((i, -1), (j, -1), (0, 1))))
    return rows


def reordered(text: str, benchmark: Benchmark) -> list[Row]:
    """The path, and once more from the same base with the steps in the opposite order."""
    whole = parse(text, benchmark.baseline)
    start, steps = _standing(whole, text)
    rows, last = path(text, benchmark), 0
    for count in range(1, len(steps) + 1):
        taken = steps[::-1][:count]
        before, last = last, len(rows)
        rows.append(_after(rows, before, f"{taken[-1]} (reordered)", Spec(whole.base, start + taken)))
    return rows


def compare(text: str, arguments: list[str], benchmark: Benchmark) -> list[Row]:
    """Any configs, each compared with the first; with frozen layers with itself without, where that is there."""
    if arguments:
        raise InputError("'compare' takes nothing in brackets")
    configs = [read_run_config(word.strip(), benchmark.baseline) for word in split_outside(text, ",")]
    keys = [config.key for config in configs]
    if twice := [str(config) for place, config in enumerate(configs) if config.key in keys[:place]]:
        raise InputError(f"{twice[0]!r} stands twice in {'compare:' + text!r}")
    free = [replace(config, overrides=replace(config.overrides, frozen=())) for config in configs]
    others = [keys.index(other.key) if other.key in keys[:place] else 0 for place, other in enumerate(free)]
    return [
        Row(_beside(config, configs[0]), config, ((others[place], -1),) if place else ())
        for place, config in enumerate(configs)
    ]


def _beside(config: RunConfig, first: RunConfig) -> str:
    """What tells a config from the first one of its kind, with the first letters of a digest."""
    told = str(config.overrides) if config.spec == first.spec and config != first else ""
    return DIGEST.sub(lambda digest: digest[0][:6], told) or str(config)


PLAN_KINDS: dict[str, Callable[[str, Benchmark], list[Row]]] = {
    "path": path,
    "leave-one-out": leave_one_out,
    "pairs": pairs,
    "reordered": reordered,
}
STUDIES: dict[str, Callable[[str, list[str], Benchmark], list[Row]]] = {
    "compare": compare,
    "distill": distill_rows,
    "datasize": datasize_rows,
}


def _standing(spec: Spec, text: str) -> tuple[tuple[Step, ...], tuple[Step, ...]]:
    """(the base's own steps, those that were added and not taken back); raises InputError for less than two."""
    steps = tuple(step for step in spec.steps[spec.start :] if step.sign == "+")
    if len(steps) < 2 or len(steps) < len(spec.steps) - spec.start:
        raise InputError(f"{text!r} must have two steps or more, all of them additions: baseline+se+cbam")
    return spec.steps[: spec.start], steps


def _after(rows: list[Row], before: int, label: str, spec: Spec) -> Row:
    """The row that `spec` makes, compared with an earlier one. Raises InputError where they are the same."""
    if spec.variant() == rows[before].config.architecture:
        raise InputError(f"{label!r} changes nothing: {rows[before].spec} is so already")
    return Row(label, RunConfig(spec), ((before, -1),))


def _first(spec: Spec, benchmark: Benchmark) -> Row:
    is_baseline = spec.architecture == parse(benchmark.baseline).architecture
    label = f"baseline ({spec})" if is_baseline else str(spec)
    return Row(label, RunConfig(spec))
