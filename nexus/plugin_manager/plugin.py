"""One loaded plugin: what it implements, and the blame when a hook of it fails."""

from collections.abc import Mapping
from typing import Any

import msgspec
import pluggy

from nexus.containment import contained
from nexus.errors import ConfigError


class Observing(msgspec.Struct):
    """How a plugin's observers have behaved, since the start of the process."""

    failures_total: int = 0
    slow_total: int = 0


class Plugin(msgspec.Struct, frozen=True):
    """A plugin that is imported and whose hooks are checked."""

    name: str
    """Of its entry point, its table, its log lines and its metrics."""
    distribution: str
    """What was installed, or the path of its file."""
    version: str
    """Of the distribution; empty for a file."""
    hooks: Mapping[str, tuple[pluggy.HookImpl, ...]]
    """What it implements, by the hook's name."""
    state: dict[str, Any] = {}
    """Its own, for as long as the process lives."""
    observing: Observing = msgspec.field(default_factory=Observing)

    @property
    def label(self) -> str:
        """Who is to blame: the plugin's name and where it comes from."""
        return f"'{self.name}' ({f'{self.distribution} {self.version}'.rstrip()})"

    def call(self, hook: str, **offered: Any) -> list[Any]:
        """Call *hook* with those of the *offered* arguments that it takes, and return what is not None.

        Each plugin is asked by itself, because each gets its own configuration: pluggy would give all the same.

        :raises ConfigError: the hook objects to the configuration.
        :raises PluginError: whatever else the hook raises, with the plugin's name.
        """
        results = []
        for implementation in self.hooks.get(hook, ()):
            with contained(f"plugin {self.label}: {hook} failed", passing=(ConfigError,)):
                result = implementation.function(*(offered[name] for name in implementation.argnames))
            if result is not None:
                results.append(result)
        return results

    def collect(self, hook: str, **offered: Any) -> list[Any]:
        """Call *hook*, which gives an iterable, and return its items."""
        items: list[Any] = []
        for result in self.call(hook, **offered):
            with contained(
                f"plugin {self.label}: {hook} must give a list, not {type(result).__name__}", (ConfigError,)
            ):
                items.extend(result)
        return items
