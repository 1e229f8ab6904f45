"""Lists the plugins that are installed or named on the command line, without importing them."""

import importlib.util
import sys
from collections.abc import Iterable
from importlib.metadata import EntryPoint, PackageMetadata, entry_points
from pathlib import Path
from typing import Any, Final

import msgspec

from nexus.containment import contained
from nexus.errors import PluginError

ENTRY_POINT_GROUP: Final = "nexus"
_STATUS: Final = "Development Status :: "


class Candidate(msgspec.Struct, frozen=True):
    """A plugin that could be loaded, and where it comes from."""

    name: str
    origin: str
    """The name of its distribution, or the path of its file."""
    version: str
    """Of its distribution; empty for a file."""
    requires: tuple[str, ...]
    """The requirements in the metadata of its distribution."""
    source: EntryPoint | Path
    stability: str = ""
    """The development status in that metadata, such as ``4 - Beta``; empty when there is none."""

    @property
    def label(self) -> str:
        """The plugin's name and origin, for error texts."""
        return f"'{self.name}' ({f'{self.origin} {self.version}'.rstrip()})"

    def load(self) -> Any:
        """Import it. :raises PluginError: its code raises anything; the text names the plugin."""
        # SystemExit too, for example of a script that ends itself when it is imported.
        with contained(f"plugin {self.label} cannot be imported", passing=()):
            return _run_file(self.source) if isinstance(self.source, Path) else self.source.load()


def find_plugins(files: Iterable[Path] = ()) -> tuple[Candidate, ...]:
    """Return all installed plugins and those in *files*, sorted by name."""
    installed = [_installed(entry) for entry in entry_points(group=ENTRY_POINT_GROUP)]
    named = [_in_file(path) for path in files]
    return tuple(sorted((*installed, *named), key=lambda c: (c.name, c.origin)))


def _installed(entry: EntryPoint) -> Candidate:
    dist = entry.dist
    if dist is None:  # an entry point without a distribution
        return Candidate(entry.name, entry.value, "", (), entry)
    # Each access to the metadata, or to the name or version in it, parses the whole of it.
    metadata = dist.metadata
    requires = tuple(dist.requires or ())
    return Candidate(entry.name, metadata["Name"], metadata["Version"], requires, entry, _stability(metadata))


def _stability(metadata: PackageMetadata) -> str:
    classifiers = metadata.get_all("Classifier") or ()
    return next((c.removeprefix(_STATUS) for c in classifiers if c.startswith(_STATUS)), "")


def _in_file(path: Path) -> Candidate:
    if not path.is_file():
        raise PluginError(f"--plugin {path}: there is no such file")
    return Candidate(path.stem, str(path), "", (), path)


def _run_file(path: Path) -> Any:
    # With a prefix, so that a file cannot replace an installed module.
    name = f"nexus_plugin_file_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    previous = sys.modules.get(name)
    # dataclasses and msgspec look the module up here to read annotations.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        if previous is None:
            del sys.modules[name]
        else:
            sys.modules[name] = previous
        raise
    return module
