"""Orders the stages by the priority that each declares, or that the operator sets; ties by name."""

import inspect
import re
from collections.abc import Iterable, Mapping
from typing import Final, Literal, get_args

import msgspec

from nexus.containment import contained, safe_text
from nexus.errors import ConfigError, PluginError, did_you_mean
from nexus.plugin_manager import Plugin
from nexus.routing.stage.api import Fact, Reconciler

BUILT_IN: Final = "built in"

REQUIRED_STAGES: Final = frozenset({"analyze", "schedule"})
"""Stages without which nothing is routed, so that they cannot only observe."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
"""Names are used as config keys and metric labels, and in a response header."""

_METHODS: Final[Mapping[str, tuple[str, ...]]] = {
    "reconcile": ("intent",),
    "reserve": ("intent", "backend"),
    "would_refuse": ("intent", "backend"),
    "is_idle": ("policies",),
    "is_quiet": ("snapshot", "requirements"),
    "version": ("snapshot",),
    "may_judge": ("backend", "model"),
    "may_hold": ("backend", "model"),
    "may_count": ("intent",),
    "count": ("intent",),
    "explain": ("intent",),
    "measures": (),
    "report": (),
}
"""The methods of a stage, each with its arguments."""

_GENERATES: Final = inspect.isgeneratorfunction
_DEFERRED: Final = (inspect.iscoroutinefunction, inspect.isasyncgenfunction, _GENERATES)
"""Calling a function of these kinds does not run it yet."""


class Place(msgspec.Struct, frozen=True):
    """A stage, its place in the pipeline and its settings."""

    reconciler: Reconciler
    name: str
    plugin: str
    """The plugin's name, or ``built in``."""
    distribution: str
    """The installed distribution, or ``built in``."""
    priority: int
    declared_priority: int
    on_error: Literal["reject", "skip"]
    """What a failure means for a request."""
    observes: bool
    """Whether the operator lets it only observe: its verdicts are recorded and have no effect."""

    @property
    def is_overridden(self) -> bool:
        """Whether the operator changed its priority in ``[routing] priorities``."""
        return self.priority != self.declared_priority


def in_order(
    built_in: Iterable[Reconciler],
    contributed: Iterable[tuple[Plugin, object]] = (),
    *,
    priorities: Mapping[str, int] | None = None,
    observe: Iterable[str] = (),
    file: str = "nexus.toml",
) -> tuple[Place, ...]:
    """Return the stages in the order in which they run, whatever the order in which they were found.

    :param priorities: by stage, the priority that the operator sets.
    :param observe: the stages that only observe.
    :param file: the name of the configuration file, for error texts.
    :raises PluginError: something is no valid stage, or two stages have the same name.
    :raises ConfigError: the configuration names a stage that does not exist.
    """
    stages = {stage.name: (stage, BUILT_IN, BUILT_IN) for stage in built_in}
    for plugin, stage in sorted(contributed, key=lambda pair: pair[0].name):
        with contained(f"a stage of plugin {plugin.label} cannot be used"):
            checked = _checked(stage, plugin)
        if checked.name in stages:
            raise PluginError(_same_name(checked.name, stages[checked.name][1], plugin.name))
        stages[checked.name] = (checked, plugin.name, plugin.distribution)
    priorities, observers = priorities or {}, frozenset(observe)
    _check_names(priorities, stages, f"{file}: [routing] priorities")
    _check_names(observers, stages, f"{file}: [routing] observe")
    for name in sorted(observers & REQUIRED_STAGES):
        raise ConfigError(f"{file}: [routing] observe: '{name}' cannot only observe, nothing is routed without it")
    for name, (stage, _, _) in stages.items():
        stage.is_observed = name in observers
    places = [
        Place(
            reconciler=stage,
            name=name,
            plugin=plugin_name,
            distribution=distribution,
            priority=priorities.get(name, stage.priority),
            declared_priority=int(stage.priority),
            on_error=stage.on_error,
            observes=name in observers,
        )
        for name, (stage, plugin_name, distribution) in stages.items()
    ]
    return tuple(sorted(places, key=lambda place: (place.priority, place.name)))


def _checked(stage: object, plugin: Plugin) -> Reconciler:
    if not isinstance(stage, Reconciler):
        raise PluginError(
            f"plugin {plugin.label}: nexus_reconcilers must give instances of nexus.api.Reconciler,"
            f" not {safe_text(stage, repr)}"
        )
    name = getattr(stage, "name", None)
    if not isinstance(name, str) or not name:
        raise PluginError(f"a stage of plugin '{plugin.name}' ({type(stage).__name__}) declares no name")
    if not _NAME.fullmatch(name):
        raise PluginError(
            f"a stage of plugin '{plugin.name}' is named {name!r:.80}; a name is up to 64 letters, digits, '-' and '_'"
        )
    declared = f"stage '{name}' of plugin '{plugin.name}' declares"
    priority = getattr(stage, "priority", None)
    if not isinstance(priority, int) or isinstance(priority, bool):
        raise PluginError(
            f"{declared} no priority; give it an int"
            " (standard stages: analyze 0, privacy 200, budget 300, …, schedule 1000)"
        )
    if stage.on_error not in {"reject", "skip"}:
        raise PluginError(f"{declared} on_error = {stage.on_error!r}; it must be 'reject' or 'skip'")
    facts = stage.depends_on
    if facts is not None and not (isinstance(facts, frozenset) and facts.issubset(get_args(Fact))):
        known = ", ".join(get_args(Fact))
        raise PluginError(f"{declared} depends_on = {facts!r:.80}; it must be None or a frozenset of these: {known}")
    for method in _METHODS:
        _check_method(stage, method, f"stage '{name}' of plugin '{plugin.name}'")
    return stage


def _check_method(stage: Reconciler, name: str, which: str) -> None:
    """Refuse a method that would fail, or would not even run, at every request."""
    method = getattr(stage, name)
    if any(is_deferred(method) for is_deferred in _DEFERRED if (name, is_deferred) != ("measures", _GENERATES)):
        raise PluginError(f"{which} is async in {name}; stages decide synchronously")
    try:
        inspect.signature(method).bind(*_METHODS[name])
    except (TypeError, ValueError) as exc:
        takes = ", ".join(_METHODS[name]) or "nothing"
        raise PluginError(f"{which} has a {name} that cannot be called with ({takes}): {exc}") from exc


def _same_name(stage: str, first: str, second: str) -> str:
    if first == BUILT_IN:
        return f"plugin '{second}' provides a stage named '{stage}', which is built in; rename it"
    if first == second:
        return f"plugin '{first}' provides two stages named '{stage}'"
    return f"plugins '{first}' and '{second}' both provide a stage named '{stage}'; disable one of them"


def _check_names(names: Iterable[str], known: Iterable[str], where: str) -> None:
    known = tuple(known)
    for name in sorted(set(names).difference(known)):
        raise ConfigError(f"{where}: no stage is named '{name}'{did_you_mean(name, known)}")
