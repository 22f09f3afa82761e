"""`summary.md`: what a session did and measured, as a page that can be committed."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.studies.gpu_session.commands import DOCTOR, Commands
from benchmarks.studies.gpu_session.figures import Rows, check_rows, peak_flops, read_json, setting_rows, training_rows
from benchmarks.studies.gpu_session.probe import LOOPS, PEAK, RUNS_PER_DEVICE
from benchmarks.studies.gpu_session.proof import read_candidates
from benchmarks.studies.gpu_session.results import Packed
from benchmarks.studies.gpu_session.step_runner import StepRunner

MAX_LOG_LINES = 12  # of an unfinished step
HARDWARE = ("versions", "commit", "computer", "device", "self-test")  # findings of `ablate doctor`


def write_summary(path: Path, runner: StepRunner, commands: Commands, packed: Packed | None = None) -> None:
    """Write the summary of all calls so far. `packed` is known at the end of a call."""
    path.write_text("\n\n".join(_sections(runner, commands, packed)) + "\n")


def _sections(runner: StepRunner, commands: Commands, packed: Packed | None) -> Iterator[str]:
    options = commands.options
    title = {"probe": "Probe", "proof": "Proof", "reproduce": "Reproduction"}[options.mode]
    yield f"# {title} of {options.subject} on {options.device}"
    yield _introduction(runner, commands)
    yield "## Steps\n\n" + _table([_step_row(runner, name) for name in runner.outcomes])
    peak = peak_flops(runner.output(PEAK))
    if throughput := read_json(runner.output(PEAK)):
        yield (
            f"## Peak\n\n{throughput['flops'] / 1e12:.3g} TFLOP/s in {throughput['precision']} matrix products, "
            f"{throughput['bytes_per_second'] / 1e9:.3g} GB/s copied, n = {throughput['n']}"
        )
    if rows := setting_rows(options.results / "step_settings.jsonl", peak):
        yield "## Settings of a training step\n\n" + _table(rows)
    if rows := check_rows(runner, peak):
        yield "## Budget checks\n\n" + _table(rows)
    for name in (LOOPS, RUNS_PER_DEVICE):
        if text := _output(runner, name):
            yield f"## {name.capitalize()}\n\n{text}"
    if candidates := read_candidates(commands):
        yield "## Candidates\n\n" + _table([_candidate_row(vars(candidate)) for candidate in candidates])
    if rows := training_rows(commands.runs, peak):
        yield "## Training\n\n" + _table(rows)
    if packed is not None:
        yield "## Files\n\n" + _files(packed)


def _introduction(runner: StepRunner, commands: Commands) -> str:
    options = commands.options
    findings = read_json(runner.output(DOCTOR)) or []
    texts = {finding["topic"]: finding["text"] for finding in findings}
    lines = [f"- {topic}: {texts[topic]}" for topic in HARDWARE if topic in texts]
    lines += [f"- problem with {finding['topic']}: {finding['problem']}" for finding in findings if finding["problem"]]
    seeds = {"probe": f"0 to {options.seeds - 1}", "proof": "0", "reproduce": "those of the assignment"}[options.mode]
    date = datetime.now(UTC).date().isoformat()
    lines += [
        f"- date: {date}; time limit of the last call: {options.seconds:.0f} s; estimates times {options.slowdown:g}",
        f"- seeds of the training runs: {seeds}; measurements use seed 0 and the number of windows (n) in the tables",
    ]
    return "\n".join(lines)


def _table(rows: Rows) -> str:
    from tabulate import tabulate

    columns = list(dict.fromkeys(name for row in rows for name in row))
    cells = [[row.get(name, "") for name in columns] for row in rows]
    return tabulate(cells, columns, tablefmt="pipe", disable_numparse=True)


def _step_row(runner: StepRunner, name: str) -> dict[str, Any]:
    outcome = runner.outcomes[name]
    note = outcome.note.replace("|", "/")
    seconds = f"{outcome.seconds:.1f}" if outcome.state != "dropped" else ""
    return {"step": name, "state": outcome.state, "s": seconds, "estimate s": f"{outcome.estimate:.0f}", "note": note}


def _output(runner: StepRunner, name: str) -> str:
    """Return the Markdown that a step printed, or the end of its log if it was stopped before that."""
    file = runner.output(name)
    if name not in runner.outcomes or not file.exists():
        return ""
    text = file.read_text().strip().replace("\n## ", "\n### ")
    if "|" in text or runner.is_done(name):
        return text
    log = file.with_suffix(".log").read_text(errors="replace").splitlines()[-MAX_LOG_LINES:]
    return "\n".join([text, "```text", *log, "```"]).strip() if log else text


def _candidate_row(candidate: dict[str, Any]) -> dict[str, Any]:
    seconds = candidate["seconds"]
    return {
        "spec": candidate["spec"],
        "GMACs": f"{candidate['macs'] / 1e9:.3f}",
        "predicted s": "" if seconds is None else f"{seconds:.0f}",
        "available s": f"{candidate['available']:.0f}",
        "verdict": candidate["verdict"],
    }


def _files(packed: Packed) -> str:
    size = sum(part.stat().st_size for part in packed.parts) / 2**20
    lines = [f"{len(packed.parts)} part(s), {size:.1f} MiB: `cat results.tar.gz.* | tar xz` unpacks them."]
    if packed.left_out:
        lines += ["", "Left out, because they do not fit:", ""]
        lines += [f"- `{name}`, {size / 2**20:.1f} MiB" for name, size in packed.left_out]
    if any(name.startswith("runs/checkpoints/") for name, _ in packed.left_out):
        lines += ["", "Without its checkpoint, an unfinished training run continues only on the same machine."]
    return "\n".join(lines)
