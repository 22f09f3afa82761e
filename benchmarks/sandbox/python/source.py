"""Read from the source of a Python file what its functions return and which models use each other."""

import ast
from collections.abc import Iterable


def returned_names(tree: ast.Module) -> dict[str, set[str]]:
    """Return what the functions of a file return: function -> the dotted names that it calls for its results."""
    functions = (node for node in tree.body if isinstance(node, ast.FunctionDef))
    return {function.name: _calls_returned(function) for function in functions}


def _calls_returned(function: ast.FunctionDef) -> set[str]:
    nodes = list(ast.walk(function))
    assigned: dict[str, set[str]] = {}
    for node in nodes:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    assigned.setdefault(target.id, set()).add(_called(node.value))
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Return) and isinstance(node.value, ast.Call):
            names.add(_called(node.value))
        elif isinstance(node, ast.Return) and isinstance(node.value, ast.Name):
            names |= assigned.get(node.value.id, set())
    return names


def _called(call: ast.Call) -> str:
    return ast.unparse(call.func)


def used_names(nodes: Iterable[ast.stmt], models: set[str]) -> set[str]:
    """Return the names that the code of the models among the statements of a file contains, except its own."""
    used: set[str] = set()
    for node in nodes:
        match node:
            case ast.ClassDef(name) | ast.FunctionDef(name) if name in models or name.startswith("_"):
                used |= _names(node) - {name}
            case ast.Assign([ast.Name(name)]) if name in models:
                used |= _names(node) - {name}
    return used


def _names(node: ast.AST) -> set[str]:
    return {name.id for name in ast.walk(node) if isinstance(name, ast.Name)}


def keys_read(tree: ast.Module, name: str) -> list[str]:
    """Return the keys that a function of the file reads from its `**kwargs`, as in `kwargs["width"]`."""
    function = next((node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name), None)
    if function is None or function.args.kwarg is None:
        return []
    keys: dict[tuple[int, int], str] = {}  # by the position in the file
    for node in ast.walk(function):
        match node:
            case ast.Subscript(ast.Name(variable), ast.Constant(str(key))) if variable == function.args.kwarg.arg:
                keys[node.lineno, node.col_offset] = key
    return list(dict.fromkeys(key for _, key in sorted(keys.items())))
