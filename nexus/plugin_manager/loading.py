"""Imports the chosen plugins, and checks every hook before any is called."""

import inspect
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Self

import pluggy

from nexus import hookspecs
from nexus.config.faults import Fault, Origin
from nexus.config.provenance import Provenance
from nexus.config.schema import PluginLoadingConfig
from nexus.containment import contained
from nexus.errors import ConfigError, PluginError, did_you_mean
from nexus.plugin_manager.choosing import choose, misnamed
from nexus.plugin_manager.contributions import Contributions
from nexus.plugin_manager.finding import Candidate, find_plugins
from nexus.plugin_manager.plugin import Plugin

DEFAULT_PROVENANCE: Final = Provenance(Origin("nexus.toml"), {})


class PluginManager:
    """The plugins of this process; each :meth:`configure` collects their contributions again."""

    def __init__(
        self,
        plugins: tuple[Plugin, ...],
        found: tuple[Candidate, ...],
        chosen: tuple[Candidate, ...],
        provenance: Provenance,
    ) -> None:
        self.plugins = plugins
        """Sorted by name."""
        self.found = found
        """All plugins that are installed or named on the command line, loaded or not."""
        self._chosen = chosen
        self._provenance = provenance

    @property
    def not_loaded(self) -> tuple[Candidate, ...]:
        """The plugins that are disabled or not requested."""
        return tuple(candidate for candidate in self.found if candidate not in self._chosen)

    @classmethod
    def load(
        cls,
        loading: PluginLoadingConfig,
        tables: Collection[str] = (),
        *,
        files: Iterable[Path] = (),
        provenance: Provenance = DEFAULT_PROVENANCE,
    ) -> Self:
        """Find, choose, import and check plugins.

        :param tables: the names of the ``[plugins.<name>]`` tables.
        :param files: the files that ``--plugin`` names.
        :param provenance: what set each key, for error texts.
        :raises ConfigError: the configuration names a plugin that is not available.
        :raises PluginError: a plugin is invalid; the text names it.
        """
        found = find_plugins(files)
        chosen = choose(found, loading, tables, provenance)
        pluggy_manager = pluggy.PluginManager(hookspecs.PROJECT)
        pluggy_manager.add_hookspecs(hookspecs)
        plugins = tuple(_load(candidate, pluggy_manager) for candidate in chosen)
        return cls(plugins, found, chosen, provenance)

    def misnamed(self, loading: PluginLoadingConfig, provenance: Provenance) -> tuple[str, ...]:
        """Return a warning for each disabled plugin that is not installed."""
        return tuple(misnamed(self.found, loading, provenance))

    def are_chosen(self, loading: PluginLoadingConfig, tables: Collection[str], provenance: Provenance) -> bool:
        """Whether a later configuration has exactly these plugins; only a restart loads others.

        :raises ConfigError: it names a plugin that is not available.
        """
        return choose(self.found, loading, tables, provenance) == self._chosen

    def configure(
        self, tables: Mapping[str, Mapping[str, Any]], *, error: Callable[[Fault], ConfigError] | None = None
    ) -> Contributions:
        """Decode each plugin's table and return new contributions; earlier ones stay valid.

        :param tables: ``[plugins]`` of the configuration: a table per plugin.
        :param error: adds file and line to a fault; by default, only the name of the file.
        :raises ConfigError: a table is wrong.
        :raises PluginError: a plugin fails.
        """
        return Contributions(self.plugins, tables, error or self._provenance.error)


def _load(candidate: Candidate, pluggy_manager: pluggy.PluginManager) -> Plugin:
    if not _NAME.fullmatch(candidate.name):
        raise PluginError(f"plugin {candidate.label}: a name is up to 64 letters, digits, '-' and '_'")
    module = candidate.load()
    with contained(f"plugin {candidate.label} cannot be registered"):
        _refuse_unmarked(candidate, module)
        try:
            pluggy_manager.register(module, candidate.name)
        except pluggy.PluginValidationError as exc:
            raise PluginError(f"{exc}{_known_arguments(exc)}") from exc
    hooks = {
        caller.name: tuple(impl for impl in caller.get_hookimpls() if impl.plugin is module)
        for caller in pluggy_manager.get_hookcallers(module) or ()
    }
    _check(candidate, hooks)
    return Plugin(candidate.name, candidate.origin, candidate.version, hooks)


def _refuse_unmarked(candidate: Candidate, module: Any) -> None:
    """Refuse a hook without ``@hookimpl``, which pluggy would silently never call."""
    for name in _SPECS:
        function = vars(module).get(name) if inspect.ismodule(module) else None
        if inspect.isfunction(function) and not hasattr(function, f"{hookspecs.PROJECT}_impl"):
            raise PluginError(f"plugin {candidate.label} defines {name} without @hookimpl; decorate it")


def _known_arguments(error: pluggy.PluginValidationError) -> str:
    """Return a line that completes pluggy's error about an argument; empty for other errors."""
    spec = next((spec for name, spec in _SPECS.items() if f"hook '{name}'" in str(error)), None)
    if spec is None or "Argument(s)" not in str(error):
        return ""
    return f"\nthe arguments there are: {', '.join(inspect.signature(spec).parameters) or 'none'}"


def _check(candidate: Candidate, hooks: Mapping[str, tuple[pluggy.HookImpl, ...]]) -> None:
    if not hooks:
        raise PluginError(f"plugin {candidate.label} implements no hook; name the module that does")
    for name, implementations in hooks.items():
        if name not in _SPECS:
            suggestion = did_you_mean(name, _SPECS)
            raise PluginError(f"plugin '{candidate.name}' implements an unknown hook '{name}'{suggestion}")
        for implementation in implementations:
            if implementation.wrapper or implementation.hookwrapper:
                raise PluginError(f"plugin {candidate.label} wraps {name}, but each plugin is called by itself")
            if inspect.iscoroutinefunction(implementation.function):
                raise PluginError(f"plugin {candidate.label}: {name} must be a plain function, not async")


_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,63}")
"""A name is used as config key, log field, prefix of metrics and part of a path."""

_SPECS = {
    name: function
    for name, function in vars(hookspecs).items()
    if inspect.isfunction(function) and hasattr(function, f"{hookspecs.PROJECT}_spec")
}
"""All hooks by name."""
