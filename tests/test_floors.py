"""Test the direction of imports between packages and their folders, and the imports of a parent process.

The folders of a package ("rooms") are grouped into layers ("floors"). A module may import from its own folder and from
lower layers, but not from other folders in its layer or from higher layers. Strings count as imports: the
`"package.module:function"` arguments of executors, and code in strings.
"""

import ast
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = {  # package -> the packages that it may import
    "arch": {"arch"},
    "benchmarks": {"arch", "benchmarks"},
    "ablation": {"arch", "benchmarks", "ablation"},
    "search": {"arch", "benchmarks", "search"},
}
ROOMS = {  # package -> the folders of each layer, from top to bottom; "" means files directly in the package
    "benchmarks": (
        ("studies",),
        ("cli", "api"),
        ("runs", "sandbox"),
        ("budget",),
        ("training",),
        ("datasets",),
        ("records",),
        ("execution",),
        ("definition",),
    ),
    "ablation": (
        ("studies",),
        ("cli", "api"),
        ("commands",),
        ("report",),
        ("until_decided",),
        ("analysis", "runner"),
        ("plans",),
    ),
    "search": (
        ("studies",),
        ("cli", "api"),
        ("session",),
        ("report",),
        ("",),
        ("samplers",),
        ("trial_attrs",),
        ("candidates",),
        ("reference_hours", "space"),
    ),
}
SOURCES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
FUNCTION_IN_STRING = re.compile(rf"\b(?:{'|'.join(PACKAGES)})(?:\.\w+)+(?=:\w)")  # "package.module:function"


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_name(path) for path in SOURCES}


def imported_modules(tree: ast.AST) -> set[str]:
    """Return the modules that are imported anywhere in the code, or that its strings name or import."""
    modules: set[str] = set()
    docstrings = _docstring_nodes(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            modules |= (names & MODULES) or {str(node.module)}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            modules |= _modules_in_string(node.value)
    return modules


def _docstring_nodes(tree: ast.AST) -> set[int]:
    return {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }


def _modules_in_string(text: str) -> set[str]:
    modules = set(FUNCTION_IN_STRING.findall(text))
    if text in MODULES and "." in text:
        modules.add(text)
    if re.search(r"(?:^|[\n;])\s*(?:from|import) ", text):
        try:
            modules |= imported_modules(ast.parse(text))
        except SyntaxError:
            modules |= set(re.findall(r"(?:from|import) ([\w.]+)", text))
    return modules


def floor_of(module: str) -> int | None:
    """Return the index of a module's layer (0 is the top layer), or None if its package has no layers."""
    package, *path = module.split(".")
    floors = ROOMS.get(package)
    if floors is None or not path:
        return None
    for room in (path[0], ""):
        for floor, rooms in enumerate(floors):
            if room in rooms:
                return floor
    raise AssertionError(f"{module} is in no layer of {package}: add its folder to ROOMS")


def may_import(module: str, other: str) -> bool:
    """Return whether the order of the layers allows an import."""
    package, other_package = module.partition(".")[0], other.partition(".")[0]
    if other_package != package:
        return other_package in PACKAGES[package]
    floor, other_floor = floor_of(module), floor_of(other)
    if floor is None or other_floor is None or other_floor > floor:
        return True
    in_same_room = module.split(".")[1] == other.split(".")[1] or "" in ROOMS[package][floor]
    return other_floor == floor and in_same_room


IMPORTS = {module_name(path): imported_modules(ast.parse(path.read_text())) & MODULES for path in SOURCES}


def test_sources_are_found() -> None:
    assert len(SOURCES) > 20
    assert sum(map(len, IMPORTS.values())) > 20


def test_imports_in_strings_are_found() -> None:
    code = 'call("benchmarks.runs.dispatch:execute_run"); TEXT = """\nfrom search.cli import main\n"""'
    assert imported_modules(ast.parse(code)) == {"benchmarks.runs.dispatch", "search.cli"}


def test_floors_forbid_imports_upwards_and_sideways() -> None:
    assert may_import("benchmarks.cli.doctor", "benchmarks.records.store")
    assert may_import("benchmarks.cli.doctor", "benchmarks.cli.options")
    assert may_import("ablation.runner", "benchmarks.records.store")
    assert not may_import("benchmarks.records.store", "benchmarks.cli.doctor")
    assert not may_import("benchmarks.sandbox.sandbox", "benchmarks.runs.run")
    assert not may_import("benchmarks.records.store", "ablation.runner")
    assert not may_import("ablation.runner", "search.runner")


def test_modules_import_only_their_own_room_and_lower_floors() -> None:
    imports = [(module, other) for module, others in IMPORTS.items() for other in others]
    assert [f"{module} imports {other}" for module, other in imports if not may_import(module, other)] == []


def test_imports_have_no_cycle() -> None:
    graph = {module: {other for other in others if other != module} for module, others in IMPORTS.items()}
    tuple(TopologicalSorter(graph).static_order())  # raises CycleError, which names the cycle


# A parent process must not import torch: the import takes seconds, and using CUDA would hold memory on the GPU.
TORCH_FREE = (  # modules, and packages or folders with all of their modules
    "ablation",
    "arch.plans",
    "arch.spec",
    "benchmarks.budget.efficiency",
    "benchmarks.budget.energy",
    "benchmarks.budget.performance",
    "benchmarks.budget.report",
    "benchmarks.budget.verdict",
    "benchmarks.cli",
    "benchmarks.datasets",
    "benchmarks.definition",
    "benchmarks.execution",
    "benchmarks.records",
    "benchmarks.runs.execute_runs",
    "benchmarks.runs.overall_progress",
    "benchmarks.runs.run",
    "benchmarks.runs.runs_per_device",
    "benchmarks.sandbox.file_check",
    "benchmarks.sandbox.sandbox",
    "benchmarks.studies.gpu_session",
    "benchmarks.training.compile_mode",
    "search",
)
WITH_TORCH = {
    "benchmarks.cli.self_test",
    "benchmarks.execution.preload",
    "search.report.export",
    "search.studies.nas_bench_201",
    "search.studies.training_free",
}

IMPORT_EACH = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
    if "torch" in sys.modules:
        sys.exit(f"{name} imports torch")
"""

HELP_OF_EACH = """
import importlib, sys
for name in sys.argv[1:]:
    assert importlib.import_module(name).main(["--help"]) == 0
    heavy = {"matplotlib", "numpy", "optuna", "pandas", "pydantic", "scipy", "timm", "torch"} & sys.modules.keys()
    if heavy:
        sys.exit(f"{name} --help imports {', '.join(sorted(heavy))}")
"""


def run_python(code: str, *arguments: str) -> str:
    """Run code in a new process and return its standard error."""
    return subprocess.run([sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True).stderr


@pytest.mark.slow
def test_modules_of_the_parent_process_do_not_import_torch() -> None:
    missing = [name for name in TORCH_FREE if not any(module.startswith(name) for module in MODULES)]
    assert missing == []
    names = [
        module
        for module in sorted(MODULES - WITH_TORCH)
        if any(module == name or module.startswith(f"{name}.") for name in TORCH_FREE)
    ]
    assert run_python(IMPORT_EACH, *names) == ""


def test_help_imports_only_light_modules() -> None:
    assert run_python(HELP_OF_EACH, "ablation.cli", "benchmarks.cli.budget_check", "search.cli") == ""
