"""List the models of a folder or a file from the source code alone. Nothing is imported or run."""

import ast
import os
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path

from benchmarks.budget.model_kind import MODEL_FILE_SUFFIXES, NOTEBOOK_SUFFIX, is_python
from benchmarks.sandbox.python.arguments import USUAL_NAMES
from benchmarks.sandbox.python.candidates import NOT_MODELS, is_loss_name
from benchmarks.sandbox.python.notebook import join_cells, read_notebook
from benchmarks.sandbox.python.source import returned_names, used_names

LISTED_SUFFIXES = tuple(suffix for suffix in MODEL_FILE_SUFFIXES if suffix not in (".bin", ".tar", ".t7"))
SKIPPED_FOLDERS = ("__pycache__", "build", "dist", "docs", "node_modules", "site-packages", "test", "tests")
SKIPPED_FILES = ("__main__.py", "conftest.py", "setup.py", "test_*.py", "*_test.py")
MODULE_BASES = ("Module", "Sequential", "LightningModule")
MODEL_LIBRARIES = ("torchvision.models", "timm.models")  # their capitalized names are classes of networks
MAX_ENTRIES = 20_000  # files and folders to look at
MAX_SOURCE_BYTES = 2**20
MAX_MODELS = 500

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass
class Listing:
    """The models of a folder.

    Attributes:
        models: MODEL arguments relative to the folder, such as "models/resnet.py:resnet18".
        notes: Sentences about what was left out.
    """

    models: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def list_models(folder: Path, pattern: str = "*") -> Listing:
    """List the models of a folder or a Python file.

    Listed are the functions that return a network, the classes of networks that no other network contains, and weights
    files. Losses, layers of other networks, `main()`, tests, hidden folders and virtual environments are left out.

    Args:
        folder: The folder, or a single Python file.
        pattern: A pattern of shell style for the names of functions and classes.
    """
    listing = Listing()
    paths = [folder] if folder.is_file() else list(_model_files(folder, listing.notes))
    root = folder.parent if folder.is_file() else folder
    sources = {path: _Source(path) for path in paths if is_python(path)}
    classes = _network_classes([source for source in sources.values() if source.tree])
    contained = {name for source in sources.values() for name in source.contained_elsewhere(classes)}
    for path in paths:
        relative = path.relative_to(root).as_posix()
        source = sources.get(path)
        if source is None or (source.tree is None and source.mentions_torch):  # its check reports the syntax error
            listing.models.append(relative)
        elif source.tree is not None:
            names = source.models(classes, contained)
            listing.models += [f"{relative}:{name}" for name in names if fnmatchcase(name, pattern)]
    if len(listing.models) > MAX_MODELS:
        listing.notes.append(f"only the first {MAX_MODELS} of {len(listing.models):,} models are checked")
        del listing.models[MAX_MODELS:]
    return listing


def _model_files(folder: Path, notes: list[str]) -> Iterator[Path]:
    """Yield the files of a folder that may contain models, in alphabetical order."""
    remaining = MAX_ENTRIES
    for place, folders, files in os.walk(folder):
        num_entries = len(folders) + len(files)
        folders[:] = sorted(name for name in folders[:remaining] if _is_searched(Path(place, name)))
        for name in sorted(files)[:remaining]:
            is_skipped = name.startswith(".") or any(fnmatchcase(name, pattern) for pattern in SKIPPED_FILES)
            if name.endswith(LISTED_SUFFIXES) and not is_skipped and os.path.isfile(Path(place, name)):
                yield Path(place, name)
        remaining -= num_entries
        if remaining < 0:
            notes.append(f"the folder has more than {MAX_ENTRIES:,} entries; the rest is not listed")
            return


def _is_searched(folder: Path) -> bool:
    is_environment = os.path.exists(folder / "pyvenv.cfg")  # False, not an error, for a folder that cannot be read
    return not (folder.name.startswith(".") or folder.name in SKIPPED_FOLDERS or is_environment)


class _Source:
    """The source code of a Python file or notebook; `tree` is None if it is too long or invalid.

    A file that cannot be read, such as a link out of the visible folders, counts as empty.
    """

    def __init__(self, path: Path) -> None:
        content = b""
        with suppress(OSError), path.open("rb") as file:
            content = file.read(MAX_SOURCE_BYTES + 1)
        self.mentions_torch = b"torch" in content
        self.tree: ast.Module | None = None
        is_notebook = path.suffix == NOTEBOOK_SUFFIX
        if is_notebook or len(content) <= MAX_SOURCE_BYTES:
            with suppress(OSError, SyntaxError, ValueError, MemoryError, RecursionError):
                self.tree = join_cells(read_notebook(path)) if is_notebook else ast.parse(content)

    @cached_property
    def classes(self) -> dict[str, ast.ClassDef]:
        """The classes at the top level."""
        return {node.name: node for node in self.tree.body if isinstance(node, ast.ClassDef)} if self.tree else {}

    @cached_property
    def functions(self) -> dict[str, Function]:
        """The functions at the top level."""
        return {node.name: node for node in self.tree.body if isinstance(node, Function)} if self.tree else {}

    @cached_property
    def imported(self) -> dict[str, str]:
        """The names that are imported from other modules, and these modules."""
        nodes = [node for node in ast.walk(self.tree) if isinstance(node, ast.ImportFrom)] if self.tree else []
        return {alias.name: node.module or "" for node in nodes for alias in node.names}

    def contained_elsewhere(self, network_classes: Collection[str]) -> set[str]:
        """Return the imported names that occur in the networks of the file."""
        networks = [node for name, node in self.classes.items() if name in network_classes]
        nodes = (
            node for network in networks for part in network.body for node in ast.walk(part)
        )  # without base classes
        return {node.id for node in nodes if isinstance(node, ast.Name)} & self.imported.keys()

    def models(self, network_classes: Collection[str], contained: Collection[str]) -> list[str]:
        """Return the names of the models that the file defines, in its order.

        Args:
            network_classes: The names of the classes of networks, in all files.
            contained: The names of layers that networks of other files contain.
        """
        assert self.tree is not None
        classes = {name for name in self.classes if name in network_classes}
        factories = self._factories(network_classes)
        used = used_names(self.tree.body, {*classes, *factories})
        models = []
        for name in dict.fromkeys(node.name for node in self.tree.body if isinstance(node, ast.ClassDef | Function)):
            is_layer = name in used or name in contained
            if name in factories:
                is_model = not (is_layer and _required(self.functions[name])) and name not in NOT_MODELS
            else:
                is_model = name in classes and not is_layer and self._takes_images_alone(name)
            if is_model and not name.startswith("_"):
                models.append(name)
        return models

    def _factories(self, network_classes: Collection[str]) -> set[str]:
        """Return the functions that return a network, or what another such function returns."""
        assert self.tree is not None
        known = {*network_classes} & {*self.classes, *self.imported}
        known |= {name for name, module in self.imported.items() if module.startswith(MODEL_LIBRARIES)}
        factories: set[str] = set()
        while True:
            new = {
                name
                for name, calls in returned_names(self.tree).items()
                if name not in factories and any(self._returns_network(name, call, known | factories) for call in calls)
            }
            if not new:
                return factories
            factories |= new

    def _returns_network(self, function: str, called: str, networks: Collection[str]) -> bool:
        """Return whether a function returns a network because it returns `called(...)`."""
        if called in networks:
            return True
        owner, _, name = called.rpartition(".")
        if name == "create_model" and (owner or self.imported.get(name, "").partition(".")[0]) == "timm":
            return True
        if owner in ("nn", "torch.nn") or called == "Sequential":  # with arguments it is a helper such as conv3x3
            return not _required(self.functions[function])
        return owner in ("models", "torchvision.models")

    def _takes_images_alone(self, name: str) -> bool:
        """Return whether forward() needs at most one argument; a loss needs the targets, too."""
        forward = _method(self.classes[name], "forward")
        return forward is None or len(_required(forward, usual=())) <= 2


def _network_classes(sources: list[_Source]) -> set[str]:
    """Return the names of all classes that are networks: subclasses of torch's Module, directly or not."""
    bases: dict[str, set[str]] = {}
    networks: set[str] = {*MODULE_BASES}
    for source in sources:
        libraries = {name for name, module in source.imported.items() if module.startswith(MODEL_LIBRARIES)}
        networks |= {name for name in libraries if name[0].isupper()}
        for name, node in source.classes.items():
            bases.setdefault(name, set()).update(ast.unparse(base).rpartition(".")[2] for base in node.bases)
    while True:
        new = {name for name, parents in bases.items() if name not in networks and parents & networks}
        if not new:
            break
        networks |= new
    return {name for name in networks & bases.keys() if not is_loss_name(name)}


def _method(node: ast.ClassDef, name: str) -> Function | None:
    return next((part for part in node.body if isinstance(part, Function) and part.name == name), None)


def _required(function: Function, usual: Collection[str] = USUAL_NAMES) -> list[str]:
    """Return the parameters of a function that have neither a default nor a usual name."""
    arguments = function.args
    positional = [*arguments.posonlyargs, *arguments.args]
    required = positional[: len(positional) - len(arguments.defaults)]
    keywords = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    required += [argument for argument, default in keywords if default is None]
    return [argument.arg for argument in required if argument.arg.lower() not in usual]
