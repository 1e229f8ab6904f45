"""Traffic policies: decodes ``[[routing.policies]]`` at start, and finds the first that matches a request's model."""

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from types import MappingProxyType
from typing import Any, Final

import msgspec
import structlog

from nexus.config.faults import Fault, KeyPath, Origin, described
from nexus.config.schema import PolicyKeys
from nexus.config.sources.decoding import decoded
from nexus.containment import contained
from nexus.domain.read_only import ReadOnlyDict
from nexus.errors import ConfigError, PluginError, did_you_mean
from nexus.routing.model_names.globs import compile_glob, covers
from nexus.routing.model_names.resolution import Resolution

log = structlog.get_logger("nexus.routing")

MAX_CACHED_MATCHES: Final = 1024
"""Clients choose the names, so the cache must be bounded."""

FIRST_PARTY_KEYS: Final[Mapping[str, str]] = {
    "privacy": "nexus-proxy-privacy",
    "max_cost_per_request": "nexus-proxy-budget",
    "min_tier": "nexus-proxy-tier",
    "allow_downgrade": "nexus-proxy-tier",
}
"""Policy keys of the first-party plugins, so that an error can say what to install."""


class _CoreKeys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    model_pattern: str
    fallback_allowed: bool = True


CORE_KEYS: Final = tuple(field.name for field in msgspec.structs.fields(_CoreKeys))


class Policy(msgspec.Struct, frozen=True):
    """What applies to the models that match one pattern."""

    index: int
    """Its place in the file, from 0."""
    model_pattern: str
    fallback_allowed: bool
    keys: Mapping[str, PolicyKeys]
    """By plugin, its decoded policy keys, with defaults for those that are not set."""

    @property
    def is_written(self) -> bool:
        """Whether it is in the file; False for the default policy."""
        return self.index >= 0


_NO_KEYS: Final[Mapping[str, PolicyKeys]] = MappingProxyType({})


class Policies:
    """All traffic policies, in file order."""

    def __init__(self, policies: Sequence[Policy] = (), defaults: Mapping[str, PolicyKeys] = _NO_KEYS) -> None:
        """:param defaults: by plugin, the policy keys when none is set."""
        self.policies = tuple(policies)
        self.default: Final = Policy(-1, "", fallback_allowed=True, keys=defaults)
        """The policy of a model that matches none, used where it is combined with a model that matches one."""
        self._patterns: tuple[tuple[re.Pattern[str], Policy], ...] = tuple(
            (compile_glob(policy.model_pattern), policy) for policy in policies
        )
        self._matches: dict[tuple[str, ...], Policy | None] = {}
        self._found: dict[tuple[object, ...], tuple[Policy, ...]] = {}

    @property
    def every(self) -> tuple[Policy, ...]:
        """All policies that may apply to a request that names no model, because it may be about any model or none."""
        return (*self.policies, self.default) if self.policies else ()

    def match(self, names: tuple[str, ...]) -> Policy | None:
        """Return the first policy that matches any of *names*, all names of one model.

        They include aliases and spellings; otherwise, another spelling would evade a policy.
        """
        if names in self._matches:
            return self._matches[names]
        if len(self._matches) >= MAX_CACHED_MATCHES:
            self._matches.clear()
        found = next((p for pattern, p in self._patterns if any(pattern.match(name) for name in names)), None)
        self._matches[names] = found
        return found

    def of(self, resolution: Resolution) -> tuple[Policy, ...]:
        """Return the policies that apply to *resolution*, each once.

        These are the first that matches any of its names, and for each of its models, the first that matches a name of
        that model: the policy of an alias adds to those of its models and lifts none of them.
        """
        key = resolution.names, resolution.names_by_model
        found = self._found.get(key)
        if found is None:
            if len(self._found) >= MAX_CACHED_MATCHES:
                self._found.clear()
            matches = (self.match(names) for names in (resolution.names, *resolution.names_by_model))
            found = tuple({policy.index: policy for policy in matches if policy is not None}.values())
            self._found[key] = found
        return found


def decode_policies(
    tables: Sequence[Mapping[str, Any]], owners: Mapping[str, type[PolicyKeys]], *, file: str = "nexus.toml"
) -> Policies:
    """Return the policies of *tables*, and log a warning for each that is never reached.

    :param owners: by plugin, the type of its policy keys.
    :param file: the name of the configuration file, for error texts.
    :raises ConfigError: a key is unknown, a value has the wrong type, or a pattern is invalid.
    :raises PluginError: two plugins own the same key, or a key has no default.
    """
    plugin_of = _owner_of_each_key(owners)
    policies = [_decode(index, table, owners, plugin_of, file) for index, table in enumerate(tables)]
    for earlier, later in combinations(policies, 2):
        if covers(earlier.model_pattern, later.model_pattern):
            log.warning("policy_shadowed", policy=later.index, pattern=later.model_pattern, by=earlier.index)
    return Policies(policies, {plugin: _keys_of(plugin, keys, {}) for plugin, keys in owners.items()})


def _owner_of_each_key(owners: Mapping[str, type[PolicyKeys]]) -> dict[str, str]:
    plugin_of: dict[str, str] = dict.fromkeys(CORE_KEYS, "")
    for plugin, keys in sorted(owners.items()):
        for field in msgspec.structs.fields(keys):
            key = field.encode_name
            if key in plugin_of:
                other = f"plugin '{plugin_of[key]}'" if plugin_of[key] else "the core"
                raise PluginError(f"plugin '{plugin}' adds the policy key '{key}', which {other} owns already")
            if field.required:
                raise PluginError(f"the policy key '{key}' of plugin '{plugin}' has no default")
            plugin_of[key] = plugin
    return plugin_of


def _decode(
    index: int,
    table: Mapping[str, Any],
    owners: Mapping[str, type[PolicyKeys]],
    plugin_of: Mapping[str, str],
    file: str,
) -> Policy:
    at, where = ("routing", "policies", index), f"{file}: routing.policies[{index}]"
    for key in table:
        if key not in plugin_of:
            raise ConfigError(f"{where}.{key}: no installed plugin understands '{key}'{_remedy(key, plugin_of)}")
    try:
        core = decoded(_of(CORE_KEYS, table), _CoreKeys, at)
        keys = {plugin: _keys_of(plugin, type_, table, at) for plugin, type_ in owners.items()}
    except Fault as fault:
        raise ConfigError(described(fault, Origin(file))) from fault
    try:
        compile_glob(core.model_pattern)
    except ValueError as exc:
        raise ConfigError(f"{where}.model_pattern: '{core.model_pattern}' is not a valid pattern: {exc}") from exc
    return Policy(index, core.model_pattern, core.fallback_allowed, ReadOnlyDict(keys))


def _keys_of(plugin: str, type_: type[PolicyKeys], table: Mapping[str, Any], at: KeyPath = ()) -> PolicyKeys:
    with contained(f"plugin '{plugin}': its policy keys cannot be decoded", passing=(Fault,)):
        return decoded(_of((f.encode_name for f in msgspec.structs.fields(type_)), table), type_, at)


def _of(keys: Iterable[str], table: Mapping[str, Any]) -> dict[str, Any]:
    return {key: table[key] for key in keys if key in table}


def _remedy(key: str, known: Iterable[str]) -> str:
    if distribution := FIRST_PARTY_KEYS.get(key):
        return f"; pip install {distribution}"
    known = tuple(known)
    return did_you_mean(key, (*known, *FIRST_PARTY_KEYS)) or f"; the known keys are: {', '.join(sorted(known))}"
