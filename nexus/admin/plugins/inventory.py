"""Lists the installed plugins: what each contributes, or why it is not loaded."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from nexus.admin.openapi.operation import DescribedRoute, Operation
from nexus.admin.page import json_page
from nexus.config.loading import LoadedConfig
from nexus.errors import ConfigError, NexusError
from nexus.plugin_manager import Candidate, Contributions, Plugin, PluginManager
from nexus.routing.stage.runner import Stage


class StageRow(msgspec.Struct, frozen=True, kw_only=True):
    """One stage of a plugin."""

    name: str
    priority: int
    """The priority in force; the operator's, if set."""
    declared_priority: int
    on_error: str
    observes_only: bool
    switched_off: bool
    """Whether it is switched off because it failed too often."""


class PluginRow(msgspec.Struct, frozen=True, kw_only=True):
    """One plugin."""

    name: str
    distribution: str
    """The name of the distribution, or the path of the file."""
    version: str
    stability: str
    """Its Development Status, such as ``4 - Beta``; empty if it has none."""
    enabled: bool
    reason: str = ""
    """Why it is not enabled."""
    stages: tuple[StageRow, ...] = ()
    hooks: tuple[str, ...] = ()
    config_table: str | None = None
    """None: it has no configuration."""
    policy_keys: tuple[str, ...] = ()
    """The keys that it adds to ``[[routing.policies]]``."""


def route(rows: Callable[[], tuple[PluginRow, ...]]) -> DescribedRoute:
    """Return ``/admin/plugins``."""
    return DescribedRoute(
        path="/admin/plugins",
        respond=lambda _: json_page({"plugins": rows()}),
        access="admin",
        operation=Operation(summary="Every plugin, and what it contributes", answers=(dict[str, Any],)),
    )


def inventory(
    loaded: LoadedConfig, manager: PluginManager, contributions: Contributions, stages: Iterable[Stage]
) -> tuple[PluginRow, ...]:
    """Return every plugin, sorted by name, with what it contributes to *stages* and *contributions*."""
    found = {(candidate.name, candidate.origin): candidate for candidate in manager.found}
    stages_of: dict[str, list[StageRow]] = {}
    for stage in stages:
        stages_of.setdefault(stage.place.plugin, []).append(_stage(stage))
    rows = [
        *(
            _loaded(plugin, found[plugin.name, plugin.distribution], contributions, stages_of)
            for plugin in manager.plugins
        ),
        *(_not_loaded(candidate, _why_left_out(candidate, loaded)) for candidate in manager.not_loaded),
    ]
    return tuple(sorted(rows, key=lambda row: (row.name, row.distribution)))


def broken_inventory(
    loaded: LoadedConfig | None, found: Iterable[Candidate], error: NexusError
) -> tuple[PluginRow, ...]:
    """Return the installed plugins when *error* prevented all of them from being loaded."""
    return tuple(_not_loaded(candidate, _why_broken(candidate, loaded, error)) for candidate in found)


def _loaded(
    plugin: Plugin, candidate: Candidate, contributions: Contributions, stages: Mapping[str, list[StageRow]]
) -> PluginRow:
    keys = contributions.policy_keys().get(plugin.name)
    return PluginRow(
        name=plugin.name,
        distribution=plugin.distribution,
        version=plugin.version,
        stability=candidate.stability,
        enabled=True,
        stages=tuple(stages.get(plugin.name, ())),
        hooks=tuple(sorted(plugin.hooks)),
        config_table=f"[plugins.{plugin.name}]" if contributions.takes_table(plugin.name) else None,
        policy_keys=tuple(field.encode_name for field in msgspec.structs.fields(keys)) if keys is not None else (),
    )


def _stage(stage: Stage) -> StageRow:
    place = stage.place
    return StageRow(
        name=place.name,
        priority=int(place.priority),
        declared_priority=place.declared_priority,
        on_error=place.on_error,
        observes_only=place.observes,
        switched_off=stage.is_off,
    )


def _not_loaded(candidate: Candidate, reason: str) -> PluginRow:
    return PluginRow(
        name=candidate.name,
        distribution=candidate.origin,
        version=candidate.version,
        stability=candidate.stability,
        enabled=False,
        reason=reason,
    )


def _why_left_out(candidate: Candidate, loaded: LoadedConfig) -> str:
    if candidate.name in loaded.config.plugin_loading.disabled:
        return f"disabled by {loaded.provenance.origin_of(('plugin_loading', 'disabled')).label}"
    return "no table, and autoload is off"


def _why_broken(candidate: Candidate, loaded: LoadedConfig | None, error: NexusError) -> str:
    if loaded is not None and candidate.name in loaded.config.plugin_loading.disabled:
        return _why_left_out(candidate, loaded)
    if _is_about(candidate, error):
        return str(error)
    if isinstance(error, ConfigError):
        return "nothing is loaded, as the configuration is wrong"
    return "nothing is loaded, because of the error of another plugin"


def _is_about(candidate: Candidate, error: NexusError) -> bool:
    """Whether *error* is about *candidate*; names in a suggestion do not count."""
    text = str(error).partition("; did you mean")[0]
    return f"'{candidate.name}'" in text or f"[plugins.{candidate.name}]" in text
