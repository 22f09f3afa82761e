"""Compare the counts of parameters and MACs with those that timm published for its models.

    python -m benchmarks.studies.timm_macs DATA_FOLDER OUT [--fvcore-limit 60] [--time-limit 900] [--sample N]

DATA_FOLDER contains timm's `results/benchmark-infer-*.csv`. Each published line (a model and an image size) whose model
the installed timm still contains is counted in a worker process, in an order in which the lines counted so far are
evenly spread over the sizes. A line up to `--fvcore-limit` GMACs is counted with both counters of `budget-check`; a
larger one only with torch's counter, on the meta device, because fvcore computes the forward pass. The counts are
appended to OUT/counts.jsonl, so that the study can be interrupted and resumed at any time. The comparison is
written to OUT/results.csv, and its summary is printed in Markdown, for benchmarks/results/.

timm counted with fvcore and published two decimals, so a difference starts where the published digits end. A line may
have several published values, because some files contain models after reparameterization or of an earlier timm. The
value with the closest number of parameters is used, and among those, the closest MACs.
"""

import argparse
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from arch.timm_names import registered_timm_names
from benchmarks.execution.local import LocalExecutor
from benchmarks.execution.progress import Report
from benchmarks.records.json_lines import JsonLines
from benchmarks.studies.timm_published import (
    COUNTS,
    Counts,
    Line,
    compare,
    read_published,
    summarize,
    summarize_families,
)

NAME = "benchmarks.studies.timm_macs"  # of this module, which is `__main__` in the parent process
LINES_PER_WORKER = 100
GOLDEN_RATIO = (1 + 5**0.5) / 2


def count_lines(report: Report, lines: list[tuple[str, int, bool]], path: Path) -> None:
    """Count models of timm (in a worker process), and append the counts of each to a file.

    Args:
        report: Not used.
        lines: Name, height and width in pixels, and whether to count with fvcore as well.
        path: The file.
    """
    from benchmarks.budget.cost import one_thread

    records = JsonLines(path, Counts)
    with one_thread():
        for name, image_size, with_fvcore in lines:
            records.append(count(name, image_size, with_fvcore))


def count(name: str, image_size: int, with_fvcore: bool) -> Counts:
    """Count a model with torch's counter on the meta device and, if wanted, with fvcore's and weights of zero."""
    import torch
    from timm import create_model, model_entrypoint

    from benchmarks.budget.cost import count_on_meta, countable_attention, with_zeros
    from benchmarks.budget.fvcore_counts import FvcoreCounts
    from benchmarks.budget.meta_cache import MetaCache
    from benchmarks.budget.uncounted import working_operators

    with torch.device("meta"), countable_attention():
        model = create_model(name).eval()
    shape = (3, image_size, image_size)
    zeros = with_zeros(model) if with_fvcore else None  # first, because a model may keep tensors of its forward pass
    with MetaCache():
        cost = count_on_meta(lambda: model, shape)
    counts = Counts(
        model=name,
        image_size=image_size,
        family=model_entrypoint(name).__module__.rpartition(".")[2],
        params=cost.params,
        macs_torch=cost.macs_torch,
        uncounted=cost.uncounted,
    )
    if zeros is None:
        return counts
    fvcore = FvcoreCounts(zeros, torch.zeros(1, *shape))
    by_operator = {operator: int(macs) for operator, macs in fvcore.macs().items()}
    return replace(
        counts,
        macs_fvcore=sum(by_operator.values()),
        fvcore_operators=by_operator,
        fvcore_omits=working_operators(fvcore.unsupported_ops()),
    )


def count_all(lines: dict[Line, bool], records: JsonLines[Counts], time_limit: float) -> None:
    """Count the lines that are not recorded yet, LINES_PER_WORKER in each worker process.

    Args:
        lines: Whether to count each line with fvcore.
        records: The file of the counts.
        time_limit: Seconds for each worker process. The line that exceeds it or fails is recorded with the error.
    """
    with LocalExecutor().session() as session:
        while session.has_capacity and (left := _missing(lines, records)):
            work = [(*line, lines[line]) for line in left[:LINES_PER_WORKER]]
            future = session.submit(f"{NAME}:count_lines", work, records.path, time_limit=time_limit)
            if session.wait() and isinstance(future.outcome, Exception):
                records.append(Counts(*_missing(lines, records)[0], error=str(future.outcome)))


def spread(length: int) -> list[int]:
    """Return the positions of a list in an order in which every prefix is evenly spread (by the golden ratio)."""
    return sorted(range(length), key=lambda position: position * GOLDEN_RATIO % 1)


def _missing(lines: Iterable[Line], records: JsonLines[Counts]) -> list[Line]:
    """Return the lines that are not recorded."""
    recorded = {Line(counts.model, counts.image_size) for counts in records.read()}
    return [line for line in lines if line not in recorded]


def main() -> None:
    """Count, write the comparison and print the summary."""
    import pandas as pd

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, metavar="DATA_FOLDER")
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--fvcore-limit", type=float, default=60, help="GMACs up to which fvcore counts as well")
    parser.add_argument("--time-limit", type=float, default=900, help="seconds for each worker process")
    parser.add_argument("--sample", type=int, help="number of lines to count (default: all)")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    published, installed = read_published(options.data), registered_timm_names()
    lines = [line for line in published if line.model in installed]
    print(f"{len(published)} published lines, {len(lines)} of models that the installed timm contains\n")
    lines = [lines[position] for position in spread(len(lines))][: options.sample]
    with_fvcore = {line: max(published[line]).gmacs <= options.fvcore_limit for line in lines}
    records = JsonLines(options.out / "counts.jsonl", Counts)
    count_all(with_fvcore, records, options.time_limit)
    rows = pd.DataFrame(compare(counts, published[Line(counts.model, counts.image_size)]) for counts in records.read())
    rows.to_csv(options.out / "results.csv", index=False)
    failed = rows[rows["error"] != ""]
    print(summarize(rows, list(COUNTS)), summarize_families(rows), sep="\n\n")
    print(f"\n{len(failed)} lines were not counted: {', '.join(failed['model']) or 'none'}")


if __name__ == "__main__":
    main()
