"""The plugins that an exported model needs: copies of their files, and the code that loads them."""

from dataclasses import dataclass, field
from operator import methodcaller
from pathlib import Path

from arch.entries import FILE_AND_NAME
from arch.layers import short_version
from arch.plugins import Plugin, active_plugins, plugin_versions
from arch.spec import parse
from benchmarks.records.atomic_write import replace_file


@dataclass
class CopiedPlugins:
    """The plugins of an exported model.

    Attributes:
        spec: The spec, which names files by their name only.
        folder: The name of the folder with the copies.
        names: The name of each plugin that is needed, and its version.
        mains: The copies that are loaded.
        files: All copies: also those of the modules that the plugins import from their folder.
    """

    spec: str
    folder: str
    names: dict[str, str] = field(default_factory=dict)
    mains: list[Path] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.names)

    def code(self) -> str:
        """Return the lines that load the plugins; "" if there are none."""
        if not self.names:
            return ""
        versions = ", ".join(f"{name} (version {short_version(digest)})" for name, digest in self.names.items())
        names = "".join(f'PLUGINS / "{file.name}", ' for file in self.mains).removesuffix(", ")
        return (
            f'\n# This model needs: {versions}\nPLUGINS = Path(__file__).parent / "{self.folder}"\n'
            f"load_plugins([{names}], SPEC, PLUGINS)\n"
        )


def copy_plugins(spec: str, folder: Path) -> CopiedPlugins:
    """Copy the files of the plugins that a spec depends on.

    Args:
        spec: The spec. Its plugins are loaded.
        folder: The folder for the copies.

    Raises:
        OSError: If a file cannot be written.
        ValueError: If two plugins have files with the same name.
    """
    names = plugin_versions(parse(spec).architecture)
    copied = CopiedPlugins(FILE_AND_NAME.sub(lambda match: match[0].rpartition("/")[2], spec), folder.name, names)
    for plugin in active_plugins():
        if plugin.version.name in names and plugin.folder is not None:
            _copy(plugin, folder, copied)
    return copied


def _copy(plugin: Plugin, folder: Path, copied: CopiedPlugins) -> None:
    for source in plugin.sources.values():
        assert plugin.folder is not None
        file = folder / Path(source.path).relative_to(plugin.folder.resolve())
        if file in copied.files:
            raise ValueError(f"two plugins have a file {file.name}: rename one of them")
        file.parent.mkdir(parents=True, exist_ok=True)
        text = source.text.encode(errors="surrogatepass")
        replace_file(file, methodcaller("write_bytes", text))
        copied.files.append(file)
        if source.path == plugin.path:
            copied.mains.append(file)
