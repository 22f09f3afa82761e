"""Candidates: their architecture, their cost, and whether they are within the budget before they are trained.

Counting parameters and MACs takes milliseconds and allocates no memory. If the budget names a device, its profile
decides about the hours. Otherwise, a candidate is timed only when its MACs leave open whether it is within the budget.
"""

from dataclasses import dataclass, field, replace
from functools import lru_cache
from statistics import median

from arch.errors import InputError
from arch.spec import Architecture, parse
from benchmarks.budget.verdict import format_hours
from benchmarks.definition.benchmark import Benchmark, DatasetConfig
from benchmarks.definition.overrides import RunConfig
from search.reference_hours import ReferenceHours
from search.space import ABSENT, ChoiceSpace

HOPELESS_PARAMS_FACTOR = 4.0  # multiple of the parameter limit; reducing the width cannot save more than this factor
SPEED_UNCERTAINTY_FACTOR = 4.0  # the speed of models with equal MACs may differ by this factor
MIN_HOURS_EXCESS = 0.01  # relative excess of a candidate over the limit by MACs, but not by expected hours


@dataclass(frozen=True)
class Candidate:
    """An architecture that can be built, and that is within the budget as far as is known without timing it."""

    config: RunConfig
    params: int
    macs: int
    hours: float  # predicted for the full training run on the device at hand; 0 while nothing has been timed
    reference_hours: float | None = None  # predicted for the device that the budget names, if it names another one

    @property
    def budget_hours(self) -> float:
        """The hours that the budget limits."""
        return self.hours if self.reference_hours is None else self.reference_hours

    @property
    def spec(self) -> str:
        """The spec, without steps that change nothing."""
        return str(self.config)

    @property
    def key(self) -> str:
        """Hash of the architecture."""
        return self.config.key


@dataclass(frozen=True)
class InfeasibleCandidate:
    """A candidate that is over the budget or cannot be built."""

    spec: str
    reason: str
    excess: float  # relative excess over the limit, such as 0.5 for 50% over
    key: str = ""  # hash of the architecture; "" for a spec that cannot be built
    params: int = 0
    macs: int = 0  # 0 if not counted


@dataclass
class HoursPredictor:
    """Predicts the training hours of a model from its MACs and the hours of models that were timed on this device."""

    rates: list[tuple[int, float]] = field(default_factory=list)  # (MACs, hours per MAC) of full training runs

    def add(self, macs: int, hours: float) -> None:
        """Add a model whose full training run takes this many hours; zeros are ignored."""
        if macs > 0 and hours > 0:
            self.rates.append((macs, hours / macs))

    def predict(self, macs: int) -> float:
        """Return the expected hours from the median rate; 0 if no model has been timed."""
        return macs * median(rate for _, rate in self.rates) if self.rates else 0.0

    def clearly_over(self, macs: int, max_hours: float) -> bool:
        """Return whether the model is over the limit even at SPEED_UNCERTAINTY_FACTOR times the best speed seen.

        Models with less than half the MACs are ignored: on a GPU, small models mostly wait for kernel launches.
        """
        rates = [rate for timed_macs, rate in self.rates if 2 * timed_macs >= macs]
        return bool(rates) and macs * min(rates) / SPEED_UNCERTAINTY_FACTOR > max_hours

    def clearly_within(self, macs: int, max_hours: float) -> bool:
        """Return whether the model is within the limit even at 1/SPEED_UNCERTAINTY_FACTOR of the lowest speed seen."""
        return bool(self.rates) and macs * max(rate for _, rate in self.rates) * SPEED_UNCERTAINTY_FACTOR <= max_hours


def screen(
    spec: str, benchmark: Benchmark, predictor: HoursPredictor, reference: ReferenceHours | None = None
) -> Candidate | InfeasibleCandidate:
    """Count a candidate and check what can be checked without timing it.

    Args:
        spec: The spec; the word `baseline` stands for the benchmark's baseline.
        benchmark: The benchmark, including the budget.
        predictor: Predicts the hours on the device at hand from the MACs.
        reference: Predicts the hours that the budget limits, if they are those of another device.
    """
    budget = benchmark.budget
    try:
        config = RunConfig(parse(spec, benchmark.baseline).simplified())
        params, macs = _count(config.spec.architecture, benchmark.data, budget.max_params)
        on_reference = reference.predict(config) if reference is not None and params <= budget.max_params else None
    except Exception as error:  # steps or image sizes that do not fit, or any error in a user-defined part
        return InfeasibleCandidate(spec, f"cannot be built: {error}", excess=1.0)
    if params > budget.max_params:
        reason = f"{params:,} parameters > {budget.max_params:,}"
        return InfeasibleCandidate(str(config), reason, params / budget.max_params - 1, config.key, params, macs)
    hours = predictor.predict(macs)
    if reference is not None and on_reference is not None:
        predicted = on_reference.predicted
        if on_reference.is_over(budget.max_hours):
            where, limit = f"predicted for {reference.profile.label}", format_hours(budget.max_hours)
            reason, excess = f"{format_hours(predicted)} {where} > {limit}", predicted / budget.max_hours - 1
            return InfeasibleCandidate(str(config), reason, excess, config.key, params, macs)
        return Candidate(config, params, macs, hours, predicted)
    if predictor.clearly_over(macs, budget.max_hours):
        reason = f"about {format_hours(hours)} predicted from {macs:,} MACs > {format_hours(budget.max_hours)}"
        excess = max(hours / budget.max_hours - 1, MIN_HOURS_EXCESS)
        return InfeasibleCandidate(str(config), reason, excess, config.key, params, macs)
    return Candidate(config, params, macs, hours)


@lru_cache(maxsize=10_000)
def _count(architecture: Architecture, data: DatasetConfig, max_params: int) -> tuple[int, int]:
    """Return (parameters, MACs) without allocating weights; MACs are 0 for a model with too many parameters."""
    import benchmarks.execution.preload  # noqa: F401  # silences warnings of libraries, as in worker processes
    from arch.models import build
    from benchmarks.budget.cost import count_on_meta
    from benchmarks.budget.parameters import registered_parameters
    from benchmarks.budget.without_values import building_without_values

    with building_without_values():
        model = build(architecture, data.num_classes, data.in_chans)
    params = sum(parameter.numel() for parameter in registered_parameters(model).values())
    if params > max_params:
        return params, 0
    return params, count_on_meta(lambda: model, data.input_shape).macs or 0


def drop_useless_fragments(space: ChoiceSpace, benchmark: Benchmark) -> ChoiceSpace:
    """Return the space without fragments that are useless on this benchmark.

    A fragment is kept if it changes the base by itself or after one earlier fragment that is kept, and if the base with
    this fragment alone has at most HOPELESS_PARAMS_FACTOR times the parameter limit. The returned
    space skips a fragment that is incompatible with the earlier fragments of a candidate.
    """
    choices: dict[str, tuple[str, ...]] = {}
    kept = [ABSENT]
    for name, fragments in space.choices.items():
        effective = [f for f in fragments if f and any(_changes(space.base + before, f, benchmark) for before in kept)]
        useful = [f for f in effective if not _is_hopeless(space.base + f, benchmark)]
        if useful:
            choices[name] = (*(f for f in fragments if not f), *useful)
            kept += useful
    return replace(space, choices=choices, lenient_baseline=benchmark.baseline)


def _changes(spec: str, fragment: str, benchmark: Benchmark) -> bool:
    try:
        return parse(spec + fragment, benchmark.baseline).architecture != parse(spec, benchmark.baseline).architecture
    except InputError:
        return False


def _is_hopeless(spec: str, benchmark: Benchmark) -> bool:
    try:
        architecture = parse(spec, benchmark.baseline).architecture
        return _count(architecture, benchmark.data, 0)[0] > HOPELESS_PARAMS_FACTOR * benchmark.budget.max_params
    except Exception:  # the fragment needs another one, or a user-defined part raises
        return False
