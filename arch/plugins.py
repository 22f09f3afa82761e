"""Plugins: Python files of users, which register parts, bases, networks and data sources (see `arch.registry`).

A plugin is read once, in the process of the command. What is executed, there and in every worker process, is the source
that was read and hashed, so an edit during a study cannot mix two versions. Modules in the folder of the plugin can be
imported; they are part of its source and of its hash. An installed package registers a plugin as an entry point of the
group `timm_ablate.plugins`.
"""

import hashlib
import importlib
import linecache
import sys
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib.abc import ExecutionLoader
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import entry_points
from importlib.util import decode_source, find_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

from arch.errors import InputError
from arch.layers import PluginVersion
from arch.registry import FILE_AND_NAME, NETWORKS, Undo, add_named, add_network, loading

ENTRY_POINT_GROUP = "timm_ablate.plugins"
DIGEST_CHARACTERS = 16


@dataclass(frozen=True)
class Source:
    """The source code of one module of a plugin."""

    module: str
    path: str
    text: str


@dataclass
class Plugin:
    """A plugin that can be sent to another process.

    Attributes:
        path: The absolute path of the file, or the name of the installed module.
        version: Its name and the hash of its source.
        sources: The source code of the file (first) and of the modules that it imports from its folder; empty for an
            installed module.
        names: The texts with which plans name objects of the file, such as `my_net.py:MyNet`.
    """

    path: str
    version: PluginVersion
    sources: dict[str, Source] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)

    @property
    def module(self) -> str:
        """The name of the module."""
        return next(iter(self.sources), self.path)

    @property
    def folder(self) -> Path | None:
        """The folder whose modules the file can import; None for an installed module."""
        return Path(self.path).parent if self.sources else None


@dataclass
class _Active:
    """The plugins of this process, and how to undo what each has registered."""

    plugins: dict[str, Plugin] = field(default_factory=dict)  # by path
    undo: dict[str, list[Undo]] = field(default_factory=dict)


_ACTIVE = _Active()


def load_plugins(files: Iterable[str | Path] = (), plan: str = "", folder: Path = Path()) -> None:
    """Load installed plugins, these files, and the files that a plan names, such as `my_net.py:MyNet`.

    A file that has been loaded and has changed since is loaded again.

    Args:
        files: Python files. Their code runs in this process.
        plan: A plan or a spec.
        folder: The folder of the files that the plan names.

    Raises:
        InputError: If a plugin does not exist or raises an error; the message names the line of its code.
    """
    import arch.parts  # noqa: F401  # registers the built-in parts, whose names are taken

    for entry in entry_points(group=ENTRY_POINT_GROUP):
        if entry.module not in _ACTIVE.plugins:
            _execute(Plugin(entry.module, PluginVersion(entry.module)))
    for file in files:
        _load_file(Path(file))
    for text in dict.fromkeys(_without_removed_part(text, folder) for text in FILE_AND_NAME.findall(plan)):
        plugin = _load_file(folder / Path(text.rpartition(":")[0]).expanduser())
        if text not in plugin.names:
            plugin.names.append(text)
            _register_name(plugin, text)


def active_plugins() -> tuple[Plugin, ...]:
    """Return the plugins of this process, to be restored in another one with `restore_plugins`."""
    return tuple(_ACTIVE.plugins.values())


def restore_plugins(plugins: Sequence[Plugin]) -> None:
    """Load plugins in a worker process, from the source that was hashed.

    Raises:
        InputError: If an installed plugin is missing here, or has another version.
    """
    if not plugins:
        return
    import arch.parts  # noqa: F401

    for plugin in plugins:
        expected = plugin.version.digest
        _execute(plugin)
        if plugin.version.digest != expected:
            raise InputError(
                f"plugin {plugin.path} has version {plugin.version.digest[:8]} in {sys.prefix}, not {expected[:8]}"
            )
        for text in plugin.names:
            _register_name(plugin, text)


def unload_plugins() -> None:
    """Undo what the plugins of this process have registered."""
    for plugin in reversed(active_plugins()):
        _unload(plugin)


def plugin_versions(architecture: object) -> dict[str, str]:
    """Return the versions of the plugins that an architecture depends on: name -> digest."""
    text = repr(architecture)
    versions = (plugin.version for plugin in _ACTIVE.plugins.values())
    return {version.name: version.digest for version in versions if version.digest in text}


def describe_error(error: BaseException) -> str:
    """Describe an error in one line, with the last line of a plugin's code that led to it."""
    message = error.msg if isinstance(error, SyntaxError) else error
    return line_in_plugin(error) + " ".join(f"{type(error).__name__}: {message}".split()).removesuffix(":")


def line_in_plugin(error: BaseException) -> str:
    """Return the last line of a plugin's code that led to an error, such as "my_net.py:12: "; "" if there is none."""
    files = {source.path for plugin in _ACTIVE.plugins.values() for source in plugin.sources.values()}
    lines = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError):
        lines.append((error.filename or "", error.lineno))
    lines = [(file, line) for file, line in lines if file in files]
    return f"{Path(lines[-1][0]).name}:{lines[-1][1]}: " if lines else ""


def _without_removed_part(text: str, folder: Path) -> str:
    """Return `net.py:Gate` for `se-net.py:Gate`, which stands for a removed part unless there is a file se-net.py."""
    for start in [0, *(index + 1 for index, character in enumerate(text) if character == "-")]:
        if (folder / Path(text[start:].rpartition(":")[0]).expanduser()).is_file():
            return text[start:]
    return text


def _load_file(path: Path) -> Plugin:
    """Load a file, unless it has been loaded and has not changed since."""
    resolved = str(path.resolve())
    if (known := _ACTIVE.plugins.get(resolved)) is not None:
        if all(_read(Path(source.path)) == source.text for source in known.sources.values()):
            return known
        _unload(known)
    if path.suffix != ".py":
        raise InputError(f"--plugin {path}: a plugin is a Python file, such as my_net.py")
    if not path.is_file():
        raise InputError(f"--plugin {path}: there is no such file")
    module = path.stem
    if not module.isidentifier() or _is_taken(module, resolved):
        module = f"plugin_{module}"
    plugin = Plugin(resolved, PluginVersion(path.name), {module: Source(module, resolved, _read(path))})
    _execute(plugin)
    for text in known.names if known is not None else ():
        plugin.names.append(text)
        _register_name(plugin, text)
    return plugin


def _is_taken(module: str, path: str) -> bool:
    """Return whether a module of another file has this name."""
    spec = PathFinder.find_spec(module)
    return module in sys.stdlib_module_names or (spec is not None and spec.origin != path)


def _execute(plugin: Plugin) -> None:
    """Run the code of a plugin and set its digest. Nothing stays registered if it raises an error."""
    undo: list[Undo] = []
    _ACTIVE.plugins[plugin.path], _ACTIVE.undo[plugin.path] = plugin, undo
    if _FINDER not in sys.meta_path:
        sys.meta_path.insert(0, _FINDER)
    try:
        with loading(plugin.version, undo):
            module = importlib.import_module(plugin.module)
            _register_timm_models(plugin, module)
    except (Exception, SystemExit) as error:
        reason = describe_error(error)
        _unload(plugin)
        raise InputError(f"plugin {plugin.version.name} cannot be loaded: {reason}") from error
    texts = [source.text for source in plugin.sources.values()] or _installed_sources(module)
    content = "\0".join(texts).encode(errors="surrogatepass")
    plugin.version.digest = hashlib.sha256(content).hexdigest()[:DIGEST_CHARACTERS]


def _unload(plugin: Plugin) -> None:
    """Undo what a plugin has registered, and forget its modules."""
    for undo in reversed(_ACTIVE.undo.pop(plugin.path, [])):
        undo()
    _ACTIVE.plugins.pop(plugin.path, None)
    for module in plugin.sources:
        sys.modules.pop(module, None)


def _register_timm_models(plugin: Plugin, module: ModuleType) -> None:
    """Register the functions that timm's `register_model` has decorated as networks."""
    registry = sys.modules.get("timm.models._registry")
    entrypoints = vars(registry).get("_model_entrypoints", {}) if registry is not None else {}
    for name, function in list(entrypoints.items()):
        if getattr(function, "__module__", "") in (module.__name__, *plugin.sources) and name not in NETWORKS:
            add_network(name, function)


def _register_name(plugin: Plugin, text: str) -> None:
    """Register the object that a plan names as `my_net.py:MyNet`."""
    name = text.rpartition(":")[2]
    item = getattr(sys.modules[plugin.module], name, None)
    if not callable(item):
        classes = [key for key, value in vars(sys.modules[plugin.module]).items() if _is_own_class(value, plugin)]
        raise InputError(f"{text}: the file has no class or function {name!r}; it has: {', '.join(classes) or 'none'}")
    with loading(plugin.version, _ACTIVE.undo[plugin.path]):
        try:
            add_named(text, item)
        except ValueError as error:
            raise InputError(f"{text}: {error}") from error


def _is_own_class(item: object, plugin: Plugin) -> bool:
    return isinstance(item, type) and item.__module__ == plugin.module


def _installed_sources(module: ModuleType) -> list[str]:
    """Return the source code of the top-level package of an installed module."""
    spec = find_spec(module.__name__.partition(".")[0])
    if spec is None or spec.origin is None:
        return []
    files = sorted(Path(spec.origin).parent.rglob("*.py")) if spec.submodule_search_locations else [Path(spec.origin)]
    return [_read(file) for file in files]


def _read(path: Path) -> str:
    """Return the source code of a file. Raises InputError if it cannot be read or decoded."""
    try:
        return decode_source(path.read_bytes())
    except (OSError, SyntaxError, UnicodeDecodeError) as error:
        raise InputError(f"--plugin {path}: {error}") from error


class _SourceLoader(ExecutionLoader):
    """Executes the source code of one module of a plugin."""

    def __init__(self, source: Source) -> None:
        self.source = source

    def get_filename(self, fullname: str) -> str:
        return self.source.path

    def get_source(self, fullname: str) -> str:
        return self.source.text

    def is_package(self, fullname: str) -> bool:
        return Path(self.source.path).name == "__init__.py"

    def exec_module(self, module: ModuleType) -> None:
        text = self.source.text
        linecache.cache[self.source.path] = (len(text), None, text.splitlines(keepends=True), self.source.path)
        super().exec_module(module)


class _Finder:
    """Finds the modules of plugins: in their sources, or in the folder of the plugin that is being loaded."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Return the location of a module of a plugin (see `sys.meta_path`)."""
        for plugin in reversed(_ACTIVE.plugins.values()):
            source = plugin.sources.get(name) or (None if plugin.version.digest else _find_beside(plugin, name))
            if source is not None:
                plugin.sources[name] = source
                return spec_from_loader(name, _SourceLoader(source), origin=source.path)
        return None


def _find_beside(plugin: Plugin, name: str) -> Source | None:
    """Return the source of a module in the folder of a plugin, unless another module has the same name."""
    package = name.partition(".")[0]
    if plugin.folder is None or package in sys.stdlib_module_names:
        return None
    place = plugin.folder.joinpath(*name.split("."))
    for file in (place / "__init__.py", place.with_suffix(".py")):
        if file.is_file() and (package in plugin.sources or not _is_taken(package, str(file.resolve()))):
            return Source(name, str(file.resolve()), _read(file))
    return None


_FINDER = _Finder()
