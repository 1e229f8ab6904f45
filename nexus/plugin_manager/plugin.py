"""One loaded plugin, and calls of its hooks."""

from collections.abc import Mapping
from typing import Any

import msgspec
import pluggy

from nexus.containment import contained
from nexus.errors import ConfigError


class Observing(msgspec.Struct):
    """Counts of a plugin's observers since the start of the process."""

    failures_total: int = 0
    slow_total: int = 0


class Plugin(msgspec.Struct, frozen=True):
    """An imported plugin with checked hooks."""

    name: str
    """The name of its entry point, table, log lines and metrics."""
    distribution: str
    """The installed distribution, or the path of a file."""
    version: str
    """Of the distribution; empty for a file."""
    hooks: Mapping[str, tuple[pluggy.HookImpl, ...]]
    """Its implementations, by the hook's name."""
    state: dict[str, Any] = {}
    """The plugin's own state, which lives as long as the process."""
    observing: Observing = msgspec.field(default_factory=Observing)

    @property
    def label(self) -> str:
        """The plugin's name and origin, for error texts."""
        return f"'{self.name}' ({f'{self.distribution} {self.version}'.rstrip()})"

    def call(self, hook: str, **offered: Any) -> list[Any]:
        """Call *hook* with the *offered* arguments that it takes, and return the results that are not None.

        Not through pluggy, which would call all plugins with the same configuration.

        :raises ConfigError: the hook rejects the configuration.
        :raises PluginError: the hook raises anything else; the text names the plugin.
        """
        results = []
        for implementation in self.hooks.get(hook, ()):
            with contained(f"plugin {self.label}: {hook} failed", passing=(ConfigError,)):
                result = implementation.function(*(offered[name] for name in implementation.argnames))
            if result is not None:
                results.append(result)
        return results

    def collect(self, hook: str, **offered: Any) -> list[Any]:
        """Call *hook*, which returns an iterable, and return its items."""
        items: list[Any] = []
        for result in self.call(hook, **offered):
            with contained(
                f"plugin {self.label}: {hook} must give a list, not {type(result).__name__}", (ConfigError,)
            ):
                items.extend(result)
        return items
