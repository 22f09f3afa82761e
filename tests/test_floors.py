"""The direction of imports: arch knows nobody, benchmarks knows arch, ablation and search know both, not each other."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FLOORS = {
    "arch": {"arch"},
    "benchmarks": {"arch", "benchmarks"},
    "ablation": {"arch", "benchmarks", "ablation"},
    "search": {"arch", "benchmarks", "search"},
}
SOURCES = [path for floor in FLOORS for path in sorted((ROOT / floor).rglob("*.py"))]


def imported_packages(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names.add((node.module or "").partition(".")[0])
    return names


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_imports_no_floor_above_or_beside_its_own(path: Path) -> None:
    floor = path.relative_to(ROOT).parts[0]
    assert imported_packages(path) & FLOORS.keys() <= FLOORS[floor]


def test_there_is_something_to_look_at() -> None:
    assert len(SOURCES) > 20


@pytest.mark.parametrize(
    "module",
    [
        "arch.plans",
        "arch.spec",
        "ablation.cli",
        "ablation.controls",
        "ablation.errors",
        "ablation.outputs",
        "ablation.records",
        "ablation.report",
        "ablation.study",
        "ablation.trackers",
        "ablation.verify",
        "ablation.weights",
        "benchmarks.benchmark",
        "benchmarks.budget.cli",
        "benchmarks.budget.file_check",
        "benchmarks.budget.report",
        "benchmarks.budget.sandbox",
        "benchmarks.budget.verdict",
        "benchmarks.cluster",
        "benchmarks.doctor",
        "benchmarks.engine",
        "benchmarks.lock",
        "benchmarks.results",
        "benchmarks.side_by_side",
        "benchmarks.signals",
        "benchmarks.treatment",
        "benchmarks.training.data",
        "benchmarks.training.execution",
        "benchmarks.unit",
        "benchmarks.versions",
        "search.cli",
        "search.outputs",
        "search.samplers",
        "search.study",
    ],
)
def test_what_the_parent_process_imports_loads_no_torch(module: str) -> None:
    program = f"import sys, {module}; raise SystemExit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT).returncode == 0


@pytest.mark.parametrize("command", ["ablation.cli", "benchmarks.budget.cli", "search.cli"])
def test_help_imports_neither_pandas_nor_numpy(command: str) -> None:
    late = {"pandas", "numpy", "matplotlib", "optuna"}
    program = f"import sys, {command}; raise SystemExit(bool({late} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT).returncode == 0
