"""The source code of plugins: which modules belong to a plugin, and how they are imported from memory."""

import ast
import linecache
import os
import site
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.abc import ExecutionLoader
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import decode_source, find_spec, resolve_name, spec_from_file_location
from pathlib import Path
from types import ModuleType

from arch.errors import InputError

OUR_PACKAGES = ("ablation", "arch", "benchmarks", "search")  # as in timm_ablate.py


@dataclass(frozen=True)
class Source:
    """The source code of one module of a plugin."""

    module: str
    path: str
    text: str

    @property
    def is_package(self) -> bool:
        """Whether the module is the `__init__.py` of a package."""
        return Path(self.path).name == "__init__.py"


def read_source(path: Path) -> str:
    """Return the source code of a file. Raises InputError if it cannot be read or decoded."""
    try:
        return decode_source(path.read_bytes())
    except (OSError, SyntaxError, UnicodeDecodeError) as error:
        raise InputError(f"--plugin {path}: {error}") from error


def collect_sources(path: Path) -> dict[str, Source]:
    """Read a file and the modules of its folder that it imports, directly or through other such modules.

    A module that is named like an installed or built-in one is not part of the plugin, because it is not imported.

    Args:
        path: The file of the plugin, as an absolute path.

    Returns:
        The sources by module name, the file itself first. Its name is prefixed if it cannot be imported under its own.

    Raises:
        InputError: If a file cannot be read.
    """
    module = path.stem
    if not module.isidentifier() or _is_taken(module, path.parent):
        module = f"plugin_{module}"
    sources = {module: Source(module, str(path), read_source(path))}
    queue = list(sources.values())
    for source in queue:
        for name in _imported_names(source):
            if name not in sources and (found := _find_beside(path.parent, name)) is not None:
                sources[name] = found
                queue.append(found)
    return sources


def untracked_files(sources: Mapping[str, Source], new_modules: Iterable[str]) -> list[Path]:
    """Return the files of further modules that a plugin imports, unless they belong to an installed package.

    Such modules are in an editable installation or another folder of the import path, or were imported dynamically.

    Args:
        sources: The sources of the plugin.
        new_modules: The modules that were imported while the plugin was executed.
    """
    names = {*new_modules, *(name for source in sources.values() for name in _imported_names(source))} - sources.keys()
    loaded = [getattr(sys.modules.get(name), "__file__", None) for name in names]
    # torch has modules whose `__file__` is not the path of a file.
    files = {Path(file).resolve() for file in loaded if file and file.endswith(".py") and os.path.isabs(file)}
    installed = _installed_folders()
    return sorted(f for f in files if f.is_file() and not any(f.is_relative_to(folder) for folder in installed))


def _installed_folders() -> list[Path]:
    """Return the folders of the standard library, of installed packages and of this project."""
    ours = [str(Path(__file__).parent.parent / name) for name in OUR_PACKAGES]
    paths = [sysconfig.get_path("stdlib"), sysconfig.get_path("purelib")]
    sites = [*site.getsitepackages(), site.getusersitepackages()]
    return [Path(folder).resolve() for folder in {*paths, *sites, *ours}]


def installed_sources(module: str) -> list[str]:
    """Return the source code of all modules of the top-level package of an installed module."""
    spec = find_spec(module.partition(".")[0])
    if spec is None or spec.origin is None:
        return []
    files = sorted(Path(spec.origin).parent.rglob("*.py")) if spec.submodule_search_locations else [Path(spec.origin)]
    return list(map(read_source, files))


def _imported_names(source: Source) -> Iterator[str]:
    """Yield the absolute names of all modules that the code may import anywhere; some may not be modules."""
    try:
        tree = ast.parse(source.text)
    except (SyntaxError, ValueError):  # reported when the code is executed
        return
    package = source.module if source.is_package else source.module.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _with_parents(alias.name)
        elif isinstance(node, ast.ImportFrom) and (package or not node.level):
            base = resolve_name("." * node.level + (node.module or ""), package) if node.level else str(node.module)
            for alias in node.names:
                yield from _with_parents(f"{base}.{alias.name}")


def _with_parents(name: str) -> Iterator[str]:
    """Yield a, a.b and a.b.c for a.b.c."""
    parts = name.split(".")
    yield from (".".join(parts[:length]) for length in range(1, len(parts) + 1))


def _find_beside(folder: Path, name: str) -> Source | None:
    """Return the source of a module in the folder of a plugin; None if there is none or it would not be imported."""
    place = folder.joinpath(*name.split("."))
    if _is_taken(name.partition(".")[0], folder):
        return None
    for file in (place / "__init__.py", place.with_suffix(".py")):
        if file.is_file():
            return Source(name, str(file), read_source(file))
    return Source(name, str(place / "__init__.py"), "") if place.is_dir() else None  # a package without __init__.py


def _is_taken(module: str, folder: Path) -> bool:
    """Return whether a built-in module, one of this project, or one installed outside of this folder has this name.

    In a clone of this project, its packages are beside the plugin, but do not belong to it.
    """
    if module in sys.stdlib_module_names or module in OUR_PACKAGES:
        return True
    spec = PathFinder.find_spec(module)
    if spec is None:
        return False
    places = list(spec.submodule_search_locations or []) or [spec.origin or ""]
    return folder.resolve() not in [Path(place).resolve().parent for place in places]


class SourceLoader(ExecutionLoader):
    """Executes the source code of one module of a plugin (see `importlib.abc`)."""

    def __init__(self, source: Source) -> None:
        self.source = source

    def get_filename(self, fullname: str) -> str:
        return self.source.path

    def get_source(self, fullname: str) -> str:
        return self.source.text

    def is_package(self, fullname: str) -> bool:
        return self.source.is_package

    def exec_module(self, module: ModuleType) -> None:
        text, path = self.source.text, self.source.path
        linecache.cache[path] = (len(text), None, text.splitlines(keepends=True), path)  # for tracebacks
        super().exec_module(module)


class SourceFinder:
    """Finds the modules of the plugins of this process in their sources (see `sys.meta_path`)."""

    def __init__(self) -> None:
        self.sources: dict[str, Source] = {}

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Return the location of a module of a plugin, and None for all other modules."""
        source = self.sources.get(name)
        if source is None:
            return None
        locations = [str(Path(source.path).parent)] if source.is_package else None
        return spec_from_file_location(
            name, source.path, loader=SourceLoader(source), submodule_search_locations=locations
        )
