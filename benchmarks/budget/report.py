"""Format a verdict as rows for the terminal, and as Markdown for a pull request."""

from collections.abc import Sequence

from arch.text import plural
from benchmarks.budget.performance import Latency, format_watt_hours
from benchmarks.budget.verdict import ModelCost, PredictedHours, Speed, Verdict, format_bytes, format_hours

MAX_DEAD_PARAMS_IN_REPORT = 8  # the remaining dead parameters are only counted


def rows(verdict: Verdict) -> list[tuple[str, str]]:
    """Return all available results as (label, text) pairs."""
    cost, budget = verdict.cost, verdict.budget
    lines = [
        ("model", verdict.model),
        *(("taken", choice) for choice in verdict.choices),
        ("parameters", f"{cost.params:,} (limit {budget.max_params:,}; {_parameter_kinds(cost)})"),
        ("dead parameters", dead_parameters(cost)),
        ("MACs", _macs(cost, verdict.image_size)),
        ("FLOPs", "" if cost.macs is None else f"{2 * cost.macs:,} (2 per MAC)"),
        ("costliest", _costliest(cost)),
        ("activations", "" if cost.activations is None else f"{cost.activations:,} for one image"),
        ("training memory", _memory(verdict)),
        ("training", _throughput(verdict)),
        ("predicted", _hours(verdict)),
        ("on this device", _local_hours(verdict)),
        ("achieved", _utilization(verdict)),
        ("energy", _energy(verdict)),
        *_inference(verdict),
        *(("note", note) for note in verdict.notes),
        ("advice", verdict.advice),
        ("sandbox", verdict.sandbox),
        ("versions", ", ".join(f"{name} {number}" for name, number in verdict.versions.items())),
        ("verdict", verdict.conclusion),
    ]
    return [(label, text) for label, text in lines if text]


def to_markdown(verdict: Verdict) -> str:
    """Return a Markdown heading and table.

    Every text is inline code, so that no name in it can become a link, an image or another cell.
    """
    mark = "❌" if verdict.problems else "⚠️" if verdict.unjudged else "✅"
    table = "\n".join(f"| {label} | {as_code(text)} |" for label, text in rows(verdict))
    return f"### {mark} budget-check, benchmark {as_code(verdict.benchmark)}\n\n| | |\n|:--|:--|\n{table}\n"


def budget_hours_note(verdicts: Sequence[Verdict]) -> str:
    """Return which hours were compared with a budget that names another device, and those here; otherwise ""."""
    judged = [(v, v.hours, v.local_hours) for v in verdicts if v.hours and v.local_hours]
    if not judged:
        return ""
    longest, hours, _ = max(judged, key=lambda item: item[1].predicted)
    slowest_here = max((local for _, _, local in judged), key=lambda local: local.predicted)
    limit = format_hours(longest.budget.max_hours)
    return (
        f"budget of {limit} per run, {longest.hours_source}: up to {_interval(hours)} ({longest.model}); "
        f"up to {_interval(slowest_here)} on {longest.local_device}"
        + (f"; {longest.extrapolated}" if longest.extrapolated else "")
    )


def as_code(text: str) -> str:
    """Return a text as Markdown's inline code, so that nothing in it is interpreted."""
    plain = " ".join(text.split()).replace("`", "'").replace("|", "\\|")
    return f"`{plain or '?'}`"


def _parameter_kinds(cost: ModelCost) -> str:
    reached = "" if cost.reached_params is None else f", {cost.reached_params:,} reached by a backward pass"
    hidden = f", {cost.hidden_params:,} not registered" if cost.hidden_params else ""
    return f"{cost.trainable_params:,} trainable{reached}{hidden}"


def dead_parameters(cost: ModelCost) -> str:
    """Return the parameters that receive no gradient, as a phrase; "" if there are none."""
    if not cost.dead_params:
        return ""
    remaining = len(cost.dead_params) - MAX_DEAD_PARAMS_IN_REPORT
    more = f" and {remaining:,} more" if remaining > 0 else ""
    return f"no backward pass reaches {', '.join(cost.dead_params[:MAX_DEAD_PARAMS_IN_REPORT])}{more}"


def _macs(cost: ModelCost, image_size: int) -> str:
    if cost.macs is None:
        return ""
    counts = {"fvcore": cost.macs_fvcore, "torch": cost.macs_torch}
    named = ", ".join(f"{name} {count:,}" for name, count in counts.items() if count is not None)
    return f"{cost.macs:,} at {image_size} px ({named})"


def _costliest(cost: ModelCost) -> str:
    """Return the stages with at least 1% of the MACs."""
    shares = [(stage.name, 100 * stage.macs / cost.macs) for stage in cost.stages if cost.macs]
    return ", ".join(f"{name} {share:.0f}% of MACs" for name, share in shares if share >= 1)


def _memory(verdict: Verdict) -> str:
    batch = f"for a batch of {verdict.batch_size}"
    if verdict.throughput is not None and verdict.throughput.peak_memory is not None:
        return f"{format_bytes(verdict.throughput.peak_memory)} peak {batch}"
    estimate = verdict.cost.training_memory
    return "" if estimate is None else f"about {format_bytes(estimate)} {batch}, in float32"


def _throughput(verdict: Verdict) -> str:
    if verdict.throughput is None:
        return ""
    speed: Speed = verdict.throughput.training
    spread = f"{speed.slowest:,.0f} to {speed.fastest:,.0f}"
    batch, mode = verdict.throughput.batch_size, verdict.throughput.compile_mode
    device = verdict.local_device or verdict.device
    return f"{speed.median:,.0f} images/s ({spread}), batch {batch}, {mode}, {device}"


def _hours(verdict: Verdict) -> str:
    if verdict.hours is None:
        is_explained = verdict.problems or verdict.unjudged or verdict.budget.device is not None  # by a note
        return "" if is_explained else "no hours, because timing was skipped"
    limit = format_hours(verdict.budget.max_hours)
    return f"{_interval(verdict.hours, f'; limit {limit}')} on {verdict.device}"


def _local_hours(verdict: Verdict) -> str:
    return f"{_interval(verdict.local_hours)} on {verdict.local_device}" if verdict.local_hours else ""


def _interval(hours: PredictedHours, limit: str = "") -> str:
    """Return hours with their interval."""
    interval = "no interval"
    if hours.low is not None and hours.high is not None:
        interval = " to ".join(dict.fromkeys(map(format_hours, (hours.low, hours.high))))
    return f"{format_hours(hours.predicted)} of training ({interval}{limit})"


def _utilization(verdict: Verdict) -> str:
    """Return the FLOP/s of training and their share of the peak."""
    if verdict.utilization is None:
        return ""
    achieved, peak = verdict.utilization, verdict.utilization.peak
    return (
        f"{achieved.flops_per_second / 1e12:.3g} TFLOP/s in training (3 x 2 x MACs x images/s), "
        f"{100 * achieved.share:.1f}% of the peak of {peak.flops_per_second / 1e12:.3g} TFLOP/s in {peak.precision} "
        f"matrix products, measured on {peak.measured}"
    )


def _energy(verdict: Verdict) -> str:
    energy = verdict.energy
    if energy is None:
        return ""
    total = format_watt_hours(energy.watt_hours)
    return f"{energy.joules_per_image:.3g} J per training image, {total} for all epochs ({energy.source})"


def _inference(verdict: Verdict) -> list[tuple[str, str]]:
    """Return the rows on inference: one for each batch size, and one for the memory."""
    inference = verdict.inference
    if inference is None:
        return []
    device = f"{inference.precision}, {inference.device}"  # that of the hours may be another one
    return [
        ("inference", f"{_latency(inference.single)}, {device}"),
        ("inference", f"{inference.batch.images_per_second:,.0f} images/s, {_latency(inference.batch)}, {device}"),
        (
            "inference memory",
            f"{format_bytes(inference.peak_memory)} peak, batch {inference.batch.batch_size}",
        ),
    ]


def _latency(latency: Latency) -> str:
    p99 = f"p99 {latency.p99:.3g}" if latency.p99 is not None else "too few calls for p99"
    times = f"mean {latency.mean:.3g} ms (p50 {latency.p50:.3g}, {p99})"
    return f"batch {latency.batch_size}: {times} in {plural(latency.calls, 'call')}"
