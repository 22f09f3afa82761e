"""How long a command takes to get going, against importing torch and timm alone: `python -m ablation.studies.startup_time`.

A static verdict to its end, and `ablate run` to its first training step with everything cached that is cached: decoded
images, measured speed. All run by turns in one go; medians, ratios, and the parents' memory at its highest are printed.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from statistics import median

REPEATS = 7
IMPORTS = "import torch, timm"
VERDICT = "from benchmarks.cli.budget_check import main; raise SystemExit(main(['resnet18', '--no-timing']))"
TRAINING = """
import os, sys
from benchmarks.execution.progress import Display

Display.__call__ = lambda self, progress: os._exit(0) if " seed " in progress.task else None

from ablation.cli import main

main(["run", *ARGUMENTS, "--seeds", "1", "--out", sys.argv[1]])
raise SystemExit("nothing was trained")
"""


def measure(code: str) -> tuple[float, float]:
    """Seconds, and the process's own highest memory in MiB."""
    with tempfile.TemporaryDirectory() as out:
        started = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-c", code, out], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
    assert os.waitstatus_to_exitcode(status) == 0, code
    return seconds, usage.ru_maxrss / 1024


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="*", default=["resnet8"], help="what follows `ablate run`; after -- options too")
    arguments: list[str] = parser.parse_args().run
    commands = {
        "import torch, timm": IMPORTS,
        "budget-check resnet18 --no-timing": VERDICT,
        f"ablate run {' '.join(arguments)}, to its first step": TRAINING.replace("ARGUMENTS", repr(arguments)),
    }
    for code in commands.values():  # what the disk has not cached yet
        measure(code)
    turns = [{name: measure(code) for name, code in commands.items()} for _ in range(REPEATS)]
    imports = median(turn["import torch, timm"][0] for turn in turns)
    for name in commands:
        seconds = [turn[name][0] for turn in turns]
        memory = max(turn[name][1] for turn in turns)
        spread = f"{min(seconds):.2f} to {max(seconds):.2f}"
        ratio = f"{median(seconds) / imports:.2f} of the imports"
        print(f"{name}: {median(seconds):.2f} s ({spread}), {ratio}, {memory:.0f} MiB, n = {REPEATS}")


if __name__ == "__main__":
    main()
