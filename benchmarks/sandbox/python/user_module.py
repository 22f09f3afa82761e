"""Run a Python file or notebook as a module: with its neighbors importable, its packages, and its command line."""

import ast
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from unittest.mock import MagicMock

import arch
from arch.errors import InputError
from arch.plugin_source import OUR_PACKAGES
from benchmarks.budget.model_kind import NOTEBOOK_SUFFIX
from benchmarks.sandbox.python.notebook_loader import NotebookLoader

COMMANDS_NOTE = "calls of get_ipython(), which are commands of a notebook, were ignored"
OUR_FOLDER = Path(arch.__file__).parent.parent


class UserModule:
    """A Python file or notebook that is executed as often as its model is built.

    Args:
        path: The file.
        folders: The folders from which it imports modules, first to last.

    Attributes:
        notes: What the user should know about how the file was imported.
        notebook: Runs the file if it is a notebook; None for a Python file.
        tree: The code of the file.
    """

    def __init__(self, path: Path, folders: Sequence[Path]) -> None:
        self.path, self.folders = path, [str(folder) for folder in folders]
        self.notes: list[str] = []
        self.notebook = NotebookLoader(path) if path.suffix == NOTEBOOK_SUFFIX else None
        self.tree = self.notebook.tree if self.notebook else ast.parse(path.read_bytes(), path.name)
        levels = [node.level for node in ast.walk(self.tree) if isinstance(node, ast.ImportFrom)]
        self._parents = list(path.parents[: max(_package_depth(path), *levels)])[::-1] if any(levels) else []
        self._hidden_names = {name for name in OUR_PACKAGES if any(_defines(folder, name) for folder in folders)}
        self._own_modules: dict[str, ModuleType] = {}

    @property
    def name(self) -> str:
        """The name of the module, which includes its package if the file has relative imports."""
        return ".".join([folder.name for folder in self._parents] + [self._stem])

    @property
    def _stem(self) -> str:
        return self.path.stem if self._parents else f"model_file_{self.path.stem}"

    def load(self) -> ModuleType:
        """Run the file again, so that its tensors are created on the current default device."""
        sys.argv = [str(self.path)]  # as for `python file.py`
        sys.path[:] = [*self.folders, *(entry for entry in sys.path if entry not in self.folders)]
        with self.own_names():
            for depth in range(len(self._parents)):
                self._import_parent(depth)
            spec = importlib.util.spec_from_file_location(self.name, self.path, loader=self.notebook)
            if spec is None or spec.loader is None:
                raise InputError(f"{self.path.name} cannot be imported")
            module = importlib.util.module_from_spec(spec)
            sys.modules[spec.name] = module  # as `import` does, because dataclasses look up their module there
            get_ipython = MagicMock()
            vars(module).update(get_ipython=get_ipython, display=MagicMock())  # of IPython; here, they do nothing
            spec.loader.exec_module(module)
        if get_ipython.called and COMMANDS_NOTE not in self.notes:
            self.notes.append(COMMANDS_NOTE)
        return module

    @contextmanager
    def own_names(self) -> Iterator[None]:
        """In this context, `import arch` finds the user's package if there is one, instead of ours."""
        if not self._hidden_names:
            yield
            return
        ours = self._take_modules()
        sys.modules.update(self._own_modules)
        sys.meta_path.insert(0, self)  # before the finder of our packages
        try:
            yield
        finally:
            self._own_modules = self._take_modules()
            sys.modules.update(ours)
            sys.meta_path.remove(self)

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Return the location of the user's package if ours has the same name (a finder of `sys.meta_path`)."""
        return PathFinder.find_spec(name, self.folders) if name in self._hidden_names else None

    def _take_modules(self) -> dict[str, ModuleType]:
        """Remove the modules whose names exist twice from the imported ones, and return them."""
        names = [name for name in sys.modules if name.partition(".")[0] in self._hidden_names]
        return {name: sys.modules.pop(name) for name in names}

    def _import_parent(self, depth: int) -> None:
        """Import a package of the file. If its `__init__.py` fails, an empty package takes its place."""
        folder, name = self._parents[depth], ".".join(parent.name for parent in self._parents[: depth + 1])
        if name in sys.modules and list(getattr(sys.modules[name], "__path__", [])) == [str(folder)]:
            return
        init, places = folder / "__init__.py", [str(folder)]
        empty = ModuleSpec(name, None, is_package=True)
        empty.submodule_search_locations = places
        spec = importlib.util.spec_from_file_location(name, init, submodule_search_locations=places)
        package = importlib.util.module_from_spec(spec if spec and init.is_file() else empty)
        sys.modules[name] = package
        if spec is None or spec.loader is None or not init.is_file():
            return
        try:
            spec.loader.exec_module(package)
        except Exception as error:  # it may import other models of the package, with requirements of their own
            sys.modules[name] = importlib.util.module_from_spec(empty)
            self.notes.append(f"{folder.name}/__init__.py was skipped: {type(error).__name__}: {error}")


def _package_depth(path: Path) -> int:
    """Return the number of packages that contain a file."""
    depth = 0
    while (path.parents[depth] / "__init__.py").is_file() and depth < len(path.parents) - 1:
        depth += 1
    return depth


def _defines(folder: Path, name: str) -> bool:
    """Return whether a folder contains a module or a package of this name that is not ours."""
    package = folder / name
    has_modules = package.is_dir() and any(package.glob("*.py"))
    return folder.resolve() != OUR_FOLDER and (has_modules or (folder / f"{name}.py").is_file())
