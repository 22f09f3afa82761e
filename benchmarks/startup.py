"""How long a static verdict takes, against importing torch and timm alone: `python -m benchmarks.startup`.

Both run by turns in one go; medians, their ratio, and the parent's memory at its highest are printed.
"""

import os
import subprocess
import sys
import time
from statistics import median

REPEATS = 7
IMPORTS = "import torch, timm"
VERDICT = "from benchmarks.budget.cli import main; raise SystemExit(main(['resnet18', '--no-timing']))"


def measure(code: str) -> tuple[float, float]:
    """Seconds, and the process's own highest memory in MiB."""
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    return time.perf_counter() - started, usage.ru_maxrss / 1024


def main() -> None:
    """Prints the figures."""
    for code in (IMPORTS, VERDICT):  # what the disk has not cached yet
        measure(code)
    imports, verdicts = zip(*((measure(IMPORTS), measure(VERDICT)) for _ in range(REPEATS)), strict=True)
    for name, runs in (("import torch, timm", imports), ("budget-check resnet18 --no-timing", verdicts)):
        seconds = [run[0] for run in runs]
        memory = max(run[1] for run in runs)
        spread = f"{min(seconds):.2f} to {max(seconds):.2f}"
        print(f"{name}: {median(seconds):.2f} s ({spread}), {memory:.0f} MiB, n = {REPEATS}")
    print(f"ratio of the medians: {median(r[0] for r in verdicts) / median(r[0] for r in imports):.2f}")


if __name__ == "__main__":
    main()
