"""The direction of imports between packages and rooms (folders), and what a parent process may load.

A room may import the rooms below it, never one above or beside it. Strings count as imports: `"package.module:name"`
arguments of executors, and code inside strings.
"""

import ast
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = {  # package -> the packages it may import
    "arch": {"arch"},
    "benchmarks": {"arch", "benchmarks"},
    "ablation": {"arch", "benchmarks", "ablation"},
    "search": {"arch", "benchmarks", "search"},
}
ROOMS = {  # package -> its rooms from the top floor down; files outside of all rooms are the last entry, ""
    "benchmarks": (
        ("studies",),
        ("cli",),
        ("runs", "sandbox"),
        ("budget",),
        ("training",),
        ("datasets",),
        ("records",),
        ("execution",),
        ("definition",),
    ),
    "ablation": (("studies",), ("cli",), ("commands",), ("report",), ("analysis", "runner"), ("plans",)),
    "search": (("studies",), ("cli",), ("report",), ("samplers",), ("",)),
}
SOURCES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
MODULES = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in SOURCES}
IN_STRING = re.compile(rf"\b(?:{'|'.join(PACKAGES)})(?:\.\w+)+(?=:\w)")  # "package.module:function"


def imported_modules(tree: ast.AST) -> set[str]:
    """Modules that code imports, at its top or later, and those that strings in it name or import."""
    found: set[str] = set()
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (names & MODULES) or {str(node.module)}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            found |= set(IN_STRING.findall(node.value))
            if node.value in MODULES and "." in node.value:
                found.add(node.value)
            if re.search(r"(?:^|[\n;])\s*(?:from|import) ", node.value):
                try:
                    found |= imported_modules(ast.parse(node.value))
                except SyntaxError:
                    found |= set(re.findall(r"(?:from|import) ([\w.]+)", node.value))
    return found


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def room_of(module: str) -> int | None:
    """The floor of a module in its package, 0 at the top; None for a package without rooms."""
    package, *rest = module.split(".")
    floors = ROOMS.get(package)
    if floors is None or not rest:
        return None
    for number, rooms in enumerate(floors):
        if rest[0] in rooms:
            return number
    assert "" in floors[-1], f"{module} is in no room of {package}: add it to ROOMS"
    return len(floors) - 1


IMPORTS = {module_of(path): imported_modules(ast.parse(path.read_text())) & MODULES for path in SOURCES}


@pytest.mark.parametrize("module", sorted(IMPORTS))
def test_a_module_imports_only_packages_and_rooms_below_its_own(module: str) -> None:
    package = module.partition(".")[0]
    assert {other.partition(".")[0] for other in IMPORTS[module]} <= PACKAGES[package]
    own = room_of(module)
    for other in IMPORTS[module]:
        floor = room_of(other)
        if own is None or floor is None or not other.startswith(f"{package}."):
            continue
        same_room = module.split(".")[1] == other.split(".")[1]
        assert floor > own or (floor == own and (same_room or "" in ROOMS[package][own])), f"{module} imports {other}"


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {module: {other for other in others if other != module} for module, others in IMPORTS.items()}
    tuple(TopologicalSorter(graph).static_order())  # raises CycleError, naming the cycle


def test_imports_in_strings_are_seen() -> None:
    code = 'call("benchmarks.runs.dispatch:execute_run"); TEXT = """\nfrom search.cli import main\n"""'
    assert imported_modules(ast.parse(code)) == {"benchmarks.runs.dispatch", "search.cli"}


def test_there_is_something_to_look_at() -> None:
    assert len(SOURCES) > 20


@pytest.mark.parametrize(
    "module",
    [
        "ablation.analysis.errors",
        "ablation.analysis.records",
        "ablation.analysis.verify",
        "ablation.cli",
        "ablation.plans.controls",
        "ablation.plans.pretrained",
        "ablation.report.pdf",
        "ablation.report.table_output",
        "ablation.report.trackers",
        "ablation.runner",
        "arch.plans",
        "arch.spec",
        "benchmarks.budget.report",
        "benchmarks.budget.verdict",
        "benchmarks.cli.budget_check",
        "benchmarks.cli.doctor",
        "benchmarks.datasets.cache",
        "benchmarks.definition.benchmark",
        "benchmarks.definition.overrides",
        "benchmarks.definition.versions",
        "benchmarks.execution.local",
        "benchmarks.execution.ray_cluster",
        "benchmarks.execution.signals",
        "benchmarks.records.lock",
        "benchmarks.records.store",
        "benchmarks.runs.run",
        "benchmarks.runs.runs_per_device",
        "benchmarks.sandbox.file_check",
        "benchmarks.sandbox.sandbox",
        "benchmarks.training.compile_mode",
        "search.cli",
        "search.report.outputs",
        "search.runner",
        "search.samplers.registry",
    ],
)
def test_what_the_parent_process_imports_loads_no_torch(module: str) -> None:
    program = f"import sys, {module}; raise SystemExit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT).returncode == 0


@pytest.mark.parametrize("command", ["ablation.cli", "benchmarks.cli.budget_check", "search.cli"])
def test_help_imports_neither_pandas_nor_numpy(command: str) -> None:
    late = {"pandas", "numpy", "matplotlib", "optuna"}
    program = f"import sys, {command}; raise SystemExit(bool({late} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT).returncode == 0
