"""Classify the statements of a notebook: definitions, loops and training, without running them."""

import ast
import re
from collections.abc import Iterable, Iterator

DEFINITIONS = (ast.Import, ast.ImportFrom, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
SCOPES = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
CALLS = (ast.Call, ast.Await, ast.Yield, ast.YieldFrom)
LOOPS = (ast.For, ast.AsyncFor, ast.While)
TRAINING = re.compile(r"((pre|re)?train|fit|fine_?tune|test|evaluate|validate|main)(_\w+)?|\w+_train(ing)?")


def is_definition(node: ast.stmt) -> bool:
    """Return whether a statement is an import, a class, a function or the assignment of a constant."""
    is_assignment = isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign)
    is_constant = is_assignment and not any(isinstance(child, CALLS) for child in _immediate_nodes(node))
    return isinstance(node, DEFINITIONS) or is_constant


def why_skipped(statements: Iterable[ast.stmt]) -> str:
    """Return why a cell is not run; "" if it is."""
    for statement in statements:
        for node in _immediate_nodes(statement):
            if isinstance(node, LOOPS):
                return "it contains a loop"
            if isinstance(node, ast.Call) and _trains(node):
                return f"it calls {ast.unparse(node.func)}()"
    return ""


def _immediate_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes of a statement without the code of functions and classes."""
    nodes = [node]
    while nodes:
        node = nodes.pop()
        if not isinstance(node, SCOPES):
            yield node
            nodes += ast.iter_child_nodes(node)


def _trains(call: ast.Call) -> bool:
    """Return whether the name of a function is one for training. `model.train()` only sets a mode."""
    name = ast.unparse(call.func)
    is_mode = name.endswith(".train") and not call.args and not name.endswith("trainer.train")
    return not is_mode and bool(TRAINING.fullmatch(name.rpartition(".")[2]))


def defined_names(statement: ast.stmt) -> list[str]:
    """Return the names that a statement defines; "*" stands for all names of another module."""
    match statement:
        case ast.Import(aliases) | ast.ImportFrom(names=aliases):
            return [alias.asname or alias.name.partition(".")[0] for alias in aliases]
        case ast.ClassDef(name) | ast.FunctionDef(name) | ast.AsyncFunctionDef(name):
            return [name]
    return [node.id for node in ast.walk(statement) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]
