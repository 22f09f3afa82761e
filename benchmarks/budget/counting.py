"""The first half of a budget check: parameters and MACs."""

from arch.text import plural
from benchmarks.budget.builders import Builder
from benchmarks.budget.cost import countable_attention, measure_cost
from benchmarks.budget.verdict import MAC_COUNT_TOLERANCE, ModelCost, Verdict
from benchmarks.definition.benchmark import Benchmark
from benchmarks.definition.versions import versions
from benchmarks.execution.device import device_name, gpu_versions

OVERSIZE_FACTOR = 10  # a model with more parameters than this multiple of the limit is never built in memory


def check_cost(name: str, builder: Builder, benchmark: Benchmark, device: str) -> Verdict:
    """Count parameters and MACs, and compare the parameters with the budget.

    Args:
        name: Description of the model for the verdict.
        builder: Builds the model; called on the meta device first.
        benchmark: Images, recipe and budget.
        device: Device that the verdict is for; nothing runs on it.
    """
    with countable_attention():
        cost = _count(builder, benchmark)
    return cost_verdict(name, cost, benchmark, device)


def cost_verdict(name: str, cost: ModelCost, benchmark: Benchmark, device: str) -> Verdict:
    """Return the verdict on a cost that was already counted. See `check_cost` for the arguments."""
    limit = benchmark.budget.max_params
    return Verdict(
        model=name,
        benchmark=benchmark.name,
        budget=benchmark.budget,
        image_size=benchmark.data.image_size,
        batch_size=benchmark.recipe.batch_size,
        cost=cost,
        device=device_name(device),
        versions=versions() | gpu_versions(device),
        problems=(f"{cost.params:,} parameters > {limit:,}",) if cost.params > limit else (),
        unjudged=_why_unchecked(cost, benchmark),
        notes=tuple(_notes(cost)),
    )


def _count(builder: Builder, benchmark: Benchmark) -> ModelCost:
    """Count on the meta device if a model is too large, so that a trillion parameters get their verdict in a second."""
    shape, recipe = benchmark.data.input_shape, benchmark.recipe
    batch_size = recipe.images_per_step // recipe.grad_accum_steps
    return measure_cost(builder, shape, batch_size, OVERSIZE_FACTOR * benchmark.budget.max_params)


def _why_unchecked(cost: ModelCost, benchmark: Benchmark) -> str:
    expected = (1, benchmark.data.num_classes)
    if cost.macs is not None and cost.output_shape != expected:
        returned = f"an output of shape {cost.output_shape}" if cost.output_shape else "something other than a tensor"
        return f"the model returns {returned} for one image, but {benchmark.name} needs {expected}"
    return f"the model cannot be trained: {cost.untrainable}" if cost.untrainable else ""


def _notes(cost: ModelCost) -> list[str]:
    notes = []
    if cost.disagreement > MAC_COUNT_TOLERANCE:
        lower = "fvcore" if cost.macs_fvcore != cost.macs else "torch"
        omitted = f" (it does not count {', '.join(cost.omitted)})" if cost.omitted else ""
        notes.append(f"the two counts of MACs differ by {100 * cost.disagreement:.0f}%: {lower}'s is lower{omitted}")
    if cost.macs is not None and cost.macs_fvcore is None:
        notes.append("fvcore cannot trace the model, so activations and the MACs of norms and pooling are not counted")
    if cost.uncounted:
        notes.append(f"MACs of {', '.join(cost.uncounted)} are not counted")
    if cost.hidden_params:
        notes.append(
            f"{plural(cost.hidden_params, 'parameter')} used but not registered (in a plain list?): "
            "no optimizer updates them"
        )
    return notes
