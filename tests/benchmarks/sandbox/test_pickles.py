"""Test that no source file unpickles anything but tensors, except in the one function that --allow-code calls."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SOURCES = [path for package in ("arch", "benchmarks", "ablation", "search") for path in (ROOT / package).rglob("*.py")]
PERMITTED = ("benchmarks/sandbox/files/weights.py", "unpickle")
UNPICKLERS = {"pickle", "_pickle", "cPickle", "dill", "joblib", "cloudpickle", "shelve", "marshal"}
OTHER_LOADERS = {"read_pickle", "Unpickler", "add_safe_globals", "safe_globals", "unsafe_load", "full_load"}
OVERRIDE = "NO_WEIGHTS_ONLY_LOAD"  # the end of the environment variable that makes torch.load unsafe


def violations(source: str, file: str) -> Iterator[str]:
    """Yield each place where code could be unpickled."""
    if OVERRIDE in source:
        yield f"{file}: {OVERRIDE}"
    tree = ast.parse(source)
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    permitted = {id(n) for f in functions if (file, f.name) == PERMITTED for n in ast.walk(f)}
    handlers = [node for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler)]
    in_handler = {id(n) for handler in handlers for n in ast.walk(handler)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        module, _, name = ast.unparse(node.func).rpartition(".")
        keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        is_load = module == "torch" and name == "load"
        problems = {
            "torch.load without weights_only=True": is_load
            and keywords.get("weights_only") != "True"
            and id(node) not in permitted,
            "fallback": (is_load or name == PERMITTED[1]) and id(node) in in_handler,
            "unpickling": (module in UNPICKLERS and name in ("load", "loads", "open"))
            or (name in OTHER_LOADERS and file != PERMITTED[0] and module != ""),
            "allow_pickle": keywords.get("allow_pickle", "False") != "False",
        }
        yield from (f"{file}:{node.lineno}: {what}" for what, found in problems.items() if found)


def test_only_tensors_are_unpickled() -> None:
    files = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in SOURCES}
    assert [line for name, source in files.items() for line in violations(source, name)] == []


@pytest.mark.parametrize(
    "source",
    [
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.load(path, weights_only=safe)",
        "try:\n    x()\nexcept Exception:\n    torch.load(path, weights_only=True)",
        "try:\n    x()\nexcept Exception:\n    unpickle(path)",
        "pickle.loads(content)",
        "pandas.read_pickle(path)",
        "numpy.load(path, allow_pickle=True)",
        "torch.serialization.add_safe_globals([Net])",
        "os.environ['TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'] = '1'",
    ],
)
def test_violations_are_found(source: str) -> None:
    assert list(violations(source, "benchmarks/net.py"))


def test_the_permitted_function_runs_only_with_allow_code() -> None:
    file, function = PERMITTED
    assert list(violations((ROOT / file).read_text(), "elsewhere.py"))  # it contains the unsafe call
    calls = [
        ast.unparse(node)
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.IfExp) and function in ast.unparse(node)
    ]
    assert calls == ["unpickle(path) if allow_code else _read_tensors(path)"]
