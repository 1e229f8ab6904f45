"""Lists the keys in force with their values and sources, without secrets."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from nexus.config.faults import KeyPath
from nexus.config.loading import LoadedConfig
from nexus.config.schema import BackendConfig

DEFAULT: Final = "default"
HIDDEN: Final = "***"

_LOGIN: Final = re.compile(r"://\S*@")
_REFERENCES: Final = ("env:", "file:")
_MAY_BE_SECRET: Final = frozenset({"headers", "query", "plugins"})
"""Tables whose texts are hidden unless they are references."""
_SHOWN_OF_KEYS: Final = frozenset({"name", "max_priority"})
"""In a table of ``server.api_keys``."""
_REFERENCES_ALONE: Final = frozenset({"api_key", "basic_auth", "api_keys", "admin_keys"})


class ShownKey(msgspec.Struct, frozen=True):
    """One key in force."""

    key: str
    """Dotted, such as ``server.port``."""
    value: Any
    origin: str
    """What set it: the file, a variable, ``command line``, or ``default``."""


class ShownBackend(msgspec.Struct, frozen=True):
    """One backend."""

    keys: Mapping[str, Any]
    """As in ``[[backends]]``, without keys that have their default."""
    origin: str
    """The file, with the time of reading for a watched file; ``api``; or ``discovery`` with the discoverer's name."""


def shown_keys(loaded: LoadedConfig) -> Iterator[ShownKey]:
    """Yield every key of *loaded* except those of backends."""
    for section, table in msgspec.to_builtins(loaded.config).items():
        if section != "backends":
            for path, value in _leaves(table, (section,)):
                dotted = ".".join(map(str, path))
                origin = loaded.provenance.origin_of(path).label if _is_set(loaded, dotted) else DEFAULT
                yield ShownKey(dotted, without_secrets(value, path), origin)


def shown_backends(loaded: LoadedConfig) -> Iterator[ShownBackend]:
    for index, backend in enumerate(loaded.config.backends):
        yield ShownBackend(keys_of(backend), loaded.provenance.origin_of(("backends", index)).label)


def keys_of(backend: BackendConfig) -> dict[str, Any]:
    """Return the keys of *backend* that differ from their default."""
    defaults = BackendConfig(name="", url="")
    table = msgspec.to_builtins(backend)
    return {
        key: without_secrets(table[key], (key,))
        for key in BackendConfig.__struct_fields__
        if getattr(backend, key) != getattr(defaults, key)
    }


def without_secrets(value: Any, path: KeyPath) -> Any:
    """Return *value*, the one at *path*, with :data:`HIDDEN` in place of whatever may be a secret."""
    if isinstance(value, dict):
        return {key: without_secrets(item, (*path, key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_secrets(item, path) for item in value]
    if not isinstance(value, str) or value.startswith(_REFERENCES):
        return value
    if path[-2:-1] == ("api_keys",) and path[-1] in _SHOWN_OF_KEYS:
        return value
    is_secret = not _MAY_BE_SECRET.isdisjoint(path) or not _REFERENCES_ALONE.isdisjoint(path)
    return HIDDEN if is_secret else _LOGIN.sub(f"://{HIDDEN}@", value)


def _leaves(node: Mapping[str, Any], at: KeyPath) -> Iterator[tuple[KeyPath, Any]]:
    for key, value in node.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, (*at, key))
        else:
            yield (*at, key), value


def _is_set(loaded: LoadedConfig, dotted: str) -> bool:
    return loaded.is_set(dotted) or any(key.startswith(f"{dotted}.") for key in loaded.explicitly_set)
