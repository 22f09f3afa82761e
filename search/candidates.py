"""What is known of a candidate before it is trained: its architecture, what it costs, whether it is inside the budget.

Counting takes milliseconds and no memory; nothing is timed unless it decides.
"""

from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from statistics import median

from arch.errors import InputError
from arch.spec import parse
from arch.variant import Variant
from benchmarks.budget.verdict import format_hours
from benchmarks.definition.benchmark import Benchmark, DatasetConfig
from search.space import ABSENT, ChoiceSpace

HOPELESS = 4.0  # times the parameters' limit: what no narrower width makes up for
DOUBT = 4.0  # times that nets of equal MACs may differ in speed from those that were timed


@dataclass(frozen=True)
class Candidate:
    """A spec and its cost. `problem`, where there is one, is why it is not trained, and `excess` by how much."""

    spec: str
    variant: Variant | None = None
    params: int = 0
    macs: int = 0
    hours: float = 0.0  # of the whole training, predicted
    problem: str = ""
    excess: float = 0.0  # over the limit, as a share of it

    @property
    def key(self) -> str:
        """Of the architecture; "" for a spec that is none."""
        return self.variant.key() if self.variant else ""


@dataclass
class HoursPredictor:
    """Predicts the hours of a net from its MACs and those that were timed here, as widely as MACs can mislead."""

    known: list[tuple[int, float]] = field(default_factory=list)  # (MACs, hours a MAC) of whole trainings

    def learn(self, macs: int, hours: float) -> None:
        """A net's training took so long."""
        if macs > 0 and hours > 0:
            self.known.append((macs, hours / macs))

    def expected(self, macs: int) -> float:
        """HoursPredictor, by the median rate; 0 while nothing is known."""
        return macs * median(rate for _, rate in self.known) if self.known else 0.0

    def surely_over(self, macs: int, limit: float) -> bool:
        """Whether even at DOUBT times the best speed seen it would take longer.

        Nets of less than half its MACs say nothing: on a GPU these wait for the next kernel most of the time.
        """
        rates = [rate for size, rate in self.known if 2 * size >= macs]
        return bool(rates) and macs * min(rates) / DOUBT > limit

    def surely_within(self, macs: int, limit: float) -> bool:
        """Whether even at a DOUBT-th of the worst speed seen it would not."""
        return bool(self.known) and macs * max(rate for _, rate in self.known) * DOUBT <= limit


@lru_cache(maxsize=10_000)
def _count(variant: Variant, data: DatasetConfig, max_params: int) -> tuple[int, int]:
    """(parameters, MACs), without a byte of memory; MACs are 0 where there are too many parameters. Loads torch."""
    from torch import device

    import benchmarks.execution.preload  # noqa: F401  # as children have it: without the warnings of libraries
    from arch.models import build
    from benchmarks.budget.cost import count_on_meta, registered_parameters

    with device("meta"):
        model = build(variant, data.num_classes, data.in_chans)
    params = sum(parameter.numel() for parameter in registered_parameters(model).values())
    if params > max_params:
        return params, 0
    return params, count_on_meta(lambda: model, data.input_shape).macs or 0


def screen(spec: str, benchmark: Benchmark, hours: HoursPredictor) -> Candidate:
    """Counts a candidate and judges what can be judged without timing it."""
    budget = benchmark.budget
    try:
        parsed = parse(spec, benchmark.baseline).simplified()
        variant = parsed.variant()
        params, macs = _count(variant, benchmark.data, budget.max_params)
    except Exception as error:  # steps that fit no net, no image of this size, or a user's part that raises anything
        return Candidate(spec, problem=f"it cannot be built: {error}", excess=1.0)
    found = partial(Candidate, str(parsed), variant, params, macs, hours.expected(macs))
    if params > budget.max_params:
        excess = params / budget.max_params - 1
        return found(problem=f"{params:,} parameters > {budget.max_params:,}", excess=excess)
    if hours.surely_over(macs, budget.max_hours):
        expected = hours.expected(macs)
        problem = f"about {format_hours(expected)} by its {macs:,} MACs > {format_hours(budget.max_hours)}"
        return found(problem=problem, excess=max(expected / budget.max_hours - 1, 0.01))
    return found()


def worthwhile(space: ChoiceSpace, benchmark: Benchmark) -> ChoiceSpace:
    """The space without fragments that never change anything, or that alone make a net of HOPELESS times the budget.

    In it, a fragment that does not fit those before it adds nothing. One is kept that changes the base by itself, or
    after another that is kept and comes before it.
    """
    kept: dict[str, tuple[str, ...]] = {}
    before = [ABSENT]
    for name, fragments in space.choices.items():
        useful = [f for f in fragments if f and any(_changes(space.base + first, f, benchmark) for first in before)]
        able = [f for f in useful if not _is_hopeless(space.base + f, benchmark)]
        if able:
            kept[name] = (*(f for f in fragments if not f), *able)
            before += able
    return replace(space, choices=kept, lenient_with=benchmark.baseline)


def _changes(spec: str, fragment: str, benchmark: Benchmark) -> bool:
    try:
        return parse(spec + fragment, benchmark.baseline).variant() != parse(spec, benchmark.baseline).variant()
    except InputError:
        return False


def _is_hopeless(spec: str, benchmark: Benchmark) -> bool:
    try:
        variant = parse(spec, benchmark.baseline).variant()
        return _count(variant, benchmark.data, 0)[0] > HOPELESS * benchmark.budget.max_params
    except Exception:  # it needs another fragment, or a user's part raises
        return False
