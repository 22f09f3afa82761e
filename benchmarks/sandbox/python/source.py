"""Read from the source of a Python file what its functions return and which models use each other."""

import ast


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


def used_names(tree: ast.Module, models: set[str]) -> set[str]:
    """Return the names that the code of a model of the file contains, except its own."""
    used: set[str] = set()
    for node in tree.body:
        match node:
            case ast.ClassDef(name) | ast.FunctionDef(name) if name in models or name.startswith("_"):
                used |= _names(node) - {name}
            case ast.Assign([ast.Name(name)]) if name in models:
                used |= _names(node) - {name}
    return used


def _names(node: ast.AST) -> set[str]:
    return {name.id for name in ast.walk(node) if isinstance(name, ast.Name)}
