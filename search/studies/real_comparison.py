"""Compare samplers of `search` on real trainings, each with the same wall-clock time.

    python -m search.studies.real_comparison FILE.toml --data DIR --minutes 40 --seeds 3 --out DIR

FILE.toml is a benchmark. The searches run one after the other, so nothing else should run on the computer. Each ends in
a winner, which is trained on all training images and evaluated on the test images. Finished searches are kept in --out
and not repeated.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t

from benchmarks.records.atomic_write import replace_file

SAMPLERS = ("thompson", "tpe", "random")
LEVEL = 0.95


def run_search(sampler: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Return the JSON output of a search, which runs unless its output exists.

    Raises:
        subprocess.CalledProcessError: If the search failed.
    """
    out = options.out / f"{sampler}_{seed}"
    file = out / "summary.json"
    if not file.exists():
        command = [sys.executable, "-c", "from search.cli import main; raise SystemExit(main())", "--json"]
        command += ["--benchmark", str(options.benchmark), "--sampler", sampler, "--seed", str(seed), "--out", str(out)]
        command += ["--timeout", f"{options.minutes:g}m", "--trials", "1000000", "--seeds", str(options.finalist_seeds)]
        command += ["--data", str(options.data)] if options.data else []
        command += ["--space", str(options.space)] if options.space else []
        process = subprocess.run(command, stdout=subprocess.PIPE, check=True)
        replace_file(file, lambda temporary: temporary.write_bytes(process.stdout))
    content: dict[str, Any] = json.loads(file.read_text())
    return content


def interval(values: Sequence[float]) -> str:
    """Return the mean with its confidence interval by Student's t."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return f"{mean:.2f}"
    margin = t.ppf((1 + LEVEL) / 2, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    return f"{mean:.2f} [{mean - margin:.2f}, {mean + margin:.2f}]"


def summarize(outcomes: dict[str, list[dict[str, Any]]]) -> pd.DataFrame:
    """Return one row per sampler: the test accuracy of its winners, and their difference from the first sampler.

    Args:
        outcomes: The output of one search per seed, for each sampler.
    """
    top1 = {
        sampler: [float(np.mean(search["test_top1"])) for search in searches] for sampler, searches in outcomes.items()
    }
    first = next(iter(top1))
    rows = []
    for sampler, values in top1.items():
        differences = [ours - theirs for ours, theirs in zip(top1[first], values, strict=True)]
        rows.append(
            {
                "sampler": sampler,
                "n": len(values),
                "test top-1 of the winners (%)": interval(values),
                f"{first} minus it": "" if sampler == first else interval(differences),
                "winners": ", ".join(search["winner"] for search in outcomes[sampler]),
            }
        )
    return pd.DataFrame(rows)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the missing searches, and print and write the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("benchmark", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--space", help="search space, as for `search`")
    parser.add_argument("--samplers", nargs="+", default=SAMPLERS)
    parser.add_argument("--minutes", type=float, default=40.0, help="time for each search")
    parser.add_argument("--seeds", type=int, default=3, help="searches per sampler")
    parser.add_argument("--finalist-seeds", type=int, default=3, help="seeds per finalist")
    parser.add_argument("--out", type=Path, default=Path("comparison"))
    options = parser.parse_args(argv)
    outcomes: dict[str, list[dict[str, Any]]] = {sampler: [] for sampler in options.samplers}
    for seed in range(options.seeds):
        for sampler, searches in outcomes.items():
            try:
                searches.append(run_search(sampler, seed, options))
            except subprocess.CalledProcessError as error:  # the search has printed the reason
                parser.exit(1, f"the search with {sampler}, seed {seed} ended with exit code {error.returncode}\n")
            print(f"{sampler}, seed {seed}: {searches[-1]['summary']}", flush=True)
    text = f"{summarize(outcomes).to_markdown(index=False, disable_numparse=True)}\n"
    replace_file(options.out / "summary.md", lambda file: file.write_text(text))
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
