"""What set each key, so that an error names the variable or the line to change."""

from collections.abc import Mapping
from typing import Any

import msgspec

from nexus.config.faults import Fault, KeyPath, Origin, described
from nexus.errors import ConfigError


class Setting(msgspec.Struct, frozen=True):
    """A value for one key, and its source."""

    value: Any
    origin: Origin


class Provenance:
    """The file that was read, and the settings that override it."""

    def __init__(self, file: Origin, settings: Mapping[KeyPath, Setting]) -> None:
        self._file = file
        self._settings = settings

    def error(self, fault: Fault) -> ConfigError:
        """Return *fault* as an error that begins with its source."""
        return ConfigError(described(fault, self.origin_of(fault.path)))

    def origin_of(self, path: KeyPath) -> Origin:
        """Return the source of *path*: what set it, a table around it or a key in it; by default, the file."""
        for length in range(len(path), 0, -1):
            if setting := self._settings.get(path[:length]):
                return setting.origin
        beneath = (setting.origin for at, setting in self._settings.items() if path and at[: len(path)] == path)
        return next(beneath, self._file)
