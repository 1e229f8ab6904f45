"""Reads ``NEXUS_*`` variables: short names, and ``NEXUS_SECTION__KEY`` for every key."""

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Final

from nexus.config.faults import Fault, KeyPath, Origin, described
from nexus.config.provenance import Setting
from nexus.config.quoting import shown
from nexus.config.schema import Config
from nexus.config.sources import texts
from nexus.config.sources.decoding import is_section
from nexus.errors import ConfigError, did_you_mean

PREFIX: Final = "NEXUS_"

SHORT_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "NEXUS_HOST": ("server", "host"),
    "NEXUS_PORT": ("server", "port"),
    "NEXUS_LOG_LEVEL": ("logging", "level"),
    "NEXUS_LOG_FORMAT": ("logging", "format"),
    "NEXUS_DISCOVERY": ("discovery", "enabled"),
    "NEXUS_HEALTH_CHECK": ("health_check", "enabled"),
    "NEXUS_ROUTING_STRATEGY": ("routing", "strategy"),
    "NEXUS_ROUTING_MAX_RETRIES": ("routing", "max_retries"),
    "NEXUS_DISABLE_PLUGINS": ("plugin_loading", "disabled"),
}
"""Short names for the keys that are set most often."""

NOT_KEYS: Final = frozenset({"NEXUS_API_KEY", "NEXUS_CONFIG", "NEXUS_INSECURE", "NEXUS_URL"})
"""Variables that replace an option rather than a key of the file."""

# Kubernetes sets variables for each Service of a pod's namespace, and one may be named nexus or nexus-proxy:
# https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
_FROM_KUBERNETES: Final = re.compile(r"NEXUS_(\w+_)?(SERVICE_(HOST|PORT(_\w+)?)|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)")
_PORT_OF_KUBERNETES: Final = re.compile(r"NEXUS_(\w+_)?PORT=(tcp|udp|sctp)://.*")


def settings(
    environ: Mapping[str, str], *, only: Collection[KeyPath] | None = None
) -> tuple[dict[KeyPath, Setting], frozenset[str]]:
    """Return the settings of *environ* by path, and the names of the variables that set no key.

    An empty variable counts as unset: compose files pass one for each variable that the host does not have.

    :param only: the keys to return, None for all; the values of others are not checked.
    """
    found: dict[KeyPath, Setting] = {}
    unknown = set()
    for name, text in _ours(environ):
        path = _path_of(name)
        if path is None:
            unknown.add(name)
        if path is None or (only is not None and path not in only):
            continue
        if path in found:
            raise ConfigError(f"{found[path].origin.label} and {name} both set {'.'.join(path)}; keep one of them")
        found[path] = from_text(text, path, Origin(name))
    return found, frozenset(unknown)


def from_text(text: str, path: tuple[str, ...], origin: Origin) -> Setting:
    """Return *text* as a setting of the key at *path*; raise ConfigError when it cannot be one."""
    try:
        return Setting(texts.read(text, texts.type_at(path)), origin)
    except Fault as fault:
        raise ConfigError(described(fault, origin)) from fault
    except ValueError as exc:
        raise ConfigError(described(Fault(path, str(exc)), origin)) from exc


def warning_of(name: str) -> str:
    """Return the warning about the variable *name*, which sets no key."""
    if name.removeprefix(PREFIX).lower() in Config.__struct_fields__:
        return f"{name}: is a whole table, and ignored; set one of its keys, as {name}__KEY"
    long_names = ("__".join(path).upper() for path in texts.all_keys())
    short_names = (known.removeprefix(PREFIX) for known in (*SHORT_NAMES, *NOT_KEYS))
    # Compared without the prefix, which would make any two of them similar.
    hint = did_you_mean(name.removeprefix(PREFIX), [*short_names, *long_names]).replace("'", f"'{PREFIX}", 1)
    return f"{shown(name)}: sets no key of the configuration, and is ignored{hint}"


def _ours(environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name in sorted(environ):
        text = environ[name]
        is_setting = name.startswith(PREFIX) and name not in NOT_KEYS and text.strip()
        if is_setting and not _is_from_kubernetes(name, text):
            yield name, text


def _is_from_kubernetes(name: str, text: str) -> bool:
    # Kubernetes never writes two underscores in a row, which separate a section from its key.
    is_link = _FROM_KUBERNETES.fullmatch(name) or _PORT_OF_KUBERNETES.fullmatch(f"{name}={text}")
    return is_link is not None and "__" not in name


def _path_of(name: str) -> tuple[str, ...] | None:
    """Return the path of the key that the variable *name* sets, None when there is no such key."""
    if name in SHORT_NAMES:
        return SHORT_NAMES[name]
    path = tuple(name.removeprefix(PREFIX).lower().split("__"))
    try:
        type_ = texts.type_at(path)
    except Fault:
        return None
    return path if all(path) and not is_section(type_) else None
