"""Plugins: Python files of users, which register parts, bases, networks and data sources (see `arch.registry`).

A plugin is read once, in the process of the command. What is executed, there and in every worker process, is the source
that was read and hashed, so an edit during a study cannot mix two versions. Modules in the folder of the plugin can be
imported; they are part of its source and of its hash. An installed package registers a plugin as an entry point of the
group `timm_ablate.plugins`.
"""

import hashlib
import importlib
import sys
import traceback
from collections.abc import Iterable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from arch.entries import FILE_AND_NAME, Undo, loading
from arch.errors import InputError
from arch.layers import PluginVersion, short_version
from arch.plugin_source import (
    Source,
    SourceFinder,
    collect_sources,
    installed_sources,
    read_source,
    untracked_files,
)
from arch.registry import add_named, add_network

ENTRY_POINT_GROUP = "timm_ablate.plugins"
DIGEST_CHARACTERS = 16


@dataclass(frozen=True)
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
    """The plugins of this process by path, how to undo what each has registered, and how their modules are found."""

    plugins: dict[str, Plugin] = field(default_factory=dict)
    undo: dict[str, list[Undo]] = field(default_factory=dict)
    finder: SourceFinder = field(default_factory=SourceFinder)


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
    from importlib.metadata import entry_points  # slow, and most commands that parse specs do not need it

    for entry in entry_points(group=ENTRY_POINT_GROUP):
        if entry.module not in _ACTIVE.plugins:
            _execute(Plugin(entry.module, PluginVersion(entry.module, _digest(installed_sources(entry.module)))))
    _reload_changed()
    for file in files:
        _load_file(Path(file))
    for text in dict.fromkeys(_without_removed_part(text, folder) for text in FILE_AND_NAME.findall(plan)):
        plugin = _load_file(folder / Path(text.rpartition(":")[0]).expanduser())
        if text not in plugin.names:
            _register_name(plugin, text)
            plugin.names.append(text)


def active_plugins() -> tuple[Plugin, ...]:
    """Return the plugins of this process, to be restored in another one with `restore_plugins`."""
    return tuple(_ACTIVE.plugins.values())


def restore_plugins(plugins: Sequence[Plugin]) -> None:
    """Load plugins in a worker process, from the source that was hashed.

    Raises:
        InputError: If an installed plugin is missing here, or has another version.
    """
    for plugin in plugins:
        digest = plugin.version.digest if plugin.sources else _digest(installed_sources(plugin.path))
        if digest != plugin.version.digest:
            raise InputError(
                f"plugin {plugin.path} has version {short_version(digest)} in {sys.prefix}, not "
                f"{short_version(plugin.version.digest)}"
            )
        _execute(plugin)
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
    try:
        message = error.msg if isinstance(error, SyntaxError) else str(error)
    except Exception:
        message = "its message cannot be read"
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


def _reload_changed() -> None:
    """Load the files again that have changed, or import a module that has changed; forget those that are gone."""
    plugins = [plugin for plugin in active_plugins() if plugin.sources]
    files = {plugin.path: Path(plugin.path) for plugin in plugins if Path(plugin.path).is_file()}
    changed = [p for p in plugins if p.path not in files or collect_sources(files[p.path]) != p.sources]
    for plugin in changed:
        _unload(plugin)
    for plugin in changed:
        if plugin.path in files:
            new = _load_file(files[plugin.path])
            for text in plugin.names:
                _register_name(new, text)
                new.names.append(text)


def _load_file(path: Path) -> Plugin:
    """Load a file, unless it has been loaded."""
    if path.suffix != ".py":
        raise InputError(f"--plugin {path}: a plugin is a Python file, such as my_net.py")
    if not path.is_file():
        raise InputError(f"--plugin {path}: there is no such file")
    resolved = path.resolve()
    if str(resolved) in _ACTIVE.plugins:
        return _ACTIVE.plugins[str(resolved)]
    sources = collect_sources(resolved)
    plugin = Plugin(str(resolved), PluginVersion(path.name), sources)
    before = set(sys.modules)
    _execute(plugin)
    texts = [text for source in sources.values() for text in (source.module.removeprefix("plugin_"), source.text)]
    files = untracked_files(sources, set(sys.modules) - before)
    plugin.version.digest = _digest([*texts, *map(read_source, files)])
    return plugin


def _digest(texts: Sequence[str]) -> str:
    return hashlib.sha256("\0".join(texts).encode(errors="surrogatepass")).hexdigest()[:DIGEST_CHARACTERS]


def _execute(plugin: Plugin) -> None:
    """Run the code of a plugin. Nothing stays registered if it raises an error."""
    import arch.parts  # noqa: F401  # registers the built-in parts, whose names are taken

    if _ACTIVE.finder not in sys.meta_path:
        sys.meta_path.insert(0, _ACTIVE.finder)
    undo: list[Undo] = []
    _add_sources(plugin)
    _ACTIVE.plugins[plugin.path], _ACTIVE.undo[plugin.path] = plugin, undo
    try:
        with loading(plugin.version, undo), redirect_stdout(sys.stderr):  # standard output is for results
            importlib.import_module(plugin.module)
            _register_timm_models(plugin)
    except (Exception, SystemExit) as error:
        reason = describe_error(error)
        _unload(plugin)
        raise InputError(f"plugin {plugin.version.name} cannot be loaded: {reason}") from error


def _add_sources(plugin: Plugin) -> None:
    """Let the modules of a plugin be imported from their sources, even if they were imported in another way before.

    Raises:
        InputError: If a module of another plugin has the same name.
    """
    known = _ACTIVE.finder.sources
    for name, source in plugin.sources.items():
        if (other := known.get(name, source)) != source:
            raise InputError(f"{source.path} and {other.path} have the same name: rename one of these modules")
    package = plugin.path.partition(".")[0]
    for name in list(sys.modules):
        is_installed = not plugin.sources and (name == package or name.startswith(f"{package}."))
        if is_installed or (name in plugin.sources and name not in known):
            del sys.modules[name]
    known.update(plugin.sources)


def _unload(plugin: Plugin) -> None:
    """Undo what a plugin has registered, and forget its modules, unless another plugin imports them, too."""
    for undo in reversed(_ACTIVE.undo.pop(plugin.path, [])):
        undo()
    _ACTIVE.plugins.pop(plugin.path, None)
    shared = {name for other in active_plugins() for name in other.sources}
    for module in plugin.sources.keys() - shared:
        _ACTIVE.finder.sources.pop(module, None)
        sys.modules.pop(module, None)


def _register_timm_models(plugin: Plugin) -> None:
    """Register the functions that timm's `register_model` has decorated as networks."""
    registry: Any = sys.modules.get("timm.models._registry")
    entrypoints = {} if registry is None else dict(registry._model_entrypoints)
    for name, function in entrypoints.items():
        if getattr(function, "__module__", "") in (plugin.module, *plugin.sources):
            add_network(name, function)
            _ACTIVE.undo[plugin.path].append(partial(registry._model_entrypoints.pop, name, None))


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
