"""Import the chosen plugins, and check every hook of them before any is called."""

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

IN_THE_USUAL_FILE: Final = Provenance(Origin("nexus.toml"), {})


class PluginManager:
    """The plugins of this process; what they contribute is made anew by each :meth:`configure`."""

    def __init__(
        self,
        plugins: tuple[Plugin, ...],
        found: tuple[Candidate, ...],
        chosen: tuple[Candidate, ...],
        provenance: Provenance,
    ) -> None:
        self.plugins = plugins
        """Sorted by name."""
        self._found = found
        self._chosen = chosen
        self._provenance = provenance

    @property
    def found(self) -> tuple[Candidate, ...]:
        """Return all that is installed or named on the command line, loaded or not."""
        return self._found

    @property
    def not_loaded(self) -> tuple[Candidate, ...]:
        """Return what was found, but is disabled or not asked for."""
        return tuple(candidate for candidate in self._found if candidate not in self._chosen)

    @classmethod
    def load(
        cls,
        loading: PluginLoadingConfig,
        tables: Collection[str] = (),
        *,
        files: Iterable[Path] = (),
        provenance: Provenance = IN_THE_USUAL_FILE,
    ) -> Self:
        """Find, choose, import and check plugins.

        :param tables: the names for which the configuration has a ``[plugins.<name>]`` table.
        :param files: the files that ``--plugin`` names.
        :param provenance: says of each key what set it, for error texts.
        :raises ConfigError: the configuration asks for what is not there.
        :raises PluginError: a plugin is at fault; the text says whose it is.
        """
        found = find_plugins(files)
        chosen = choose(found, loading, tables, provenance)
        pluggy_manager = pluggy.PluginManager(hookspecs.PROJECT)
        pluggy_manager.add_hookspecs(hookspecs)
        plugins = tuple(_load(candidate, pluggy_manager) for candidate in chosen)
        return cls(plugins, found, chosen, provenance)

    def misnamed(self, loading: PluginLoadingConfig, provenance: Provenance) -> tuple[str, ...]:
        """Return a warning for each plugin that *loading* disables and that is not there to be disabled."""
        return tuple(misnamed(self._found, loading, provenance))

    def are_chosen(self, loading: PluginLoadingConfig, tables: Collection[str], provenance: Provenance) -> bool:
        """Whether a later configuration asks for these plugins and no others, which only a restart could load.

        :raises ConfigError: it asks for what is not there.
        """
        return choose(self._found, loading, tables, provenance) == self._chosen

    def configure(
        self, tables: Mapping[str, Mapping[str, Any]], *, error: Callable[[Fault], ConfigError] | None = None
    ) -> Contributions:
        """Decode each plugin's table and return what the plugins then contribute; nothing made before is touched.

        :param tables: ``[plugins]`` of the configuration: a table per plugin.
        :param error: says of a fault in which file and line it is; left out, the name of the file must do.
        :raises ConfigError: a table is wrong.
        :raises PluginError: a plugin is at fault.
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
            raise PluginError(f"{exc}{_arguments_there_are(exc)}") from exc
    hooks = {
        caller.name: tuple(impl for impl in caller.get_hookimpls() if impl.plugin is module)
        for caller in pluggy_manager.get_hookcallers(module) or ()
    }
    _check(candidate, hooks)
    return Plugin(candidate.name, candidate.origin, candidate.version, hooks)


def _refuse_unmarked(candidate: Candidate, module: Any) -> None:
    """Refuse a hook without ``@hookimpl``: pluggy would never call it, and nobody would notice."""
    for name in _SPECS:
        function = vars(module).get(name) if inspect.ismodule(module) else None
        if inspect.isfunction(function) and not hasattr(function, f"{hookspecs.PROJECT}_impl"):
            raise PluginError(f"plugin {candidate.label} defines {name} without @hookimpl; decorate it")


def _arguments_there_are(error: pluggy.PluginValidationError) -> str:
    """Return the line that completes pluggy's complaint about an argument; empty for any other complaint."""
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
                raise PluginError(f"plugin {candidate.label} wraps {name}; each plugin is asked alone, nothing to wrap")
            if inspect.iscoroutinefunction(implementation.function):
                raise PluginError(f"plugin {candidate.label}: {name} must be a plain function, not async")


_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,63}")
"""Names are config keys, log fields, prefixes of metrics and parts of a path."""

_SPECS = {
    name: function
    for name, function in vars(hookspecs).items()
    if inspect.isfunction(function) and hasattr(function, f"{hookspecs.PROJECT}_spec")
}
"""Every hook there is, by name."""
