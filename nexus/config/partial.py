"""Reads the address and the keys of a configuration, even if other parts of it are wrong."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from nexus.config import loading
from nexus.config.faults import Fault, Origin
from nexus.config.provenance import Provenance
from nexus.config.schema import ServerConfig
from nexus.config.secrets import Secret, Vault, reference_of
from nexus.config.sources import env
from nexus.config.sources.decoding import decoded
from nexus.errors import ConfigError

HOST: Final = ("server", "host")
PORT: Final = ("server", "port")
NEEDED: Final = frozenset({HOST, PORT, ("server", "admin_keys"), ("server", "api_keys")})

_ANY: Final = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - recognised, not bound
"""Where to reach a proxy that listens on all addresses."""


class PartialConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a configuration that a client needs."""

    source: Path | None
    """The file, None when there is none."""
    url: str
    """Where the proxy listens, unless the default port was in use."""
    fault: ConfigError | None = None
    """Why :attr:`url` is not the one of the file."""
    is_address_set: bool = False
    """Whether the command line, or a variable for the port, sets the address."""
    admin_keys: tuple[str, ...] = ()
    """References to keys."""
    api_keys: tuple[str, ...] = ()
    """References to keys."""
    warnings: tuple[str, ...] = ()

    def key(self, environ: Mapping[str, str], *, is_admin: bool) -> Secret | None:
        """Return the first key that can be resolved: some are digests, others are not set on this machine."""
        vault = Vault(environ)
        for reference in (*self.admin_keys, *self.api_keys) if is_admin else self.api_keys:
            try:
                if not reference.startswith("sha256:"):
                    return vault.resolve(reference, ())
            except Fault:
                continue
        return None


def load_partial(path: Path | None, *, environ: Mapping[str, str], overrides: Mapping[str, object]) -> PartialConfig:
    """Return what is readable of the configuration that :func:`nexus.config.loading.load` would load.

    :raises ConfigError: the named file cannot be read, or a variable or the command line sets an invalid address.
    """
    source = loading.source_of(path, environ)
    file = loading.origin_of(source)
    from_env, unknown = env.settings(environ, only=NEEDED)
    from_line = loading.from_command_line(overrides, only=NEEDED)
    provenance = Provenance(file, from_env | from_line)
    given = {str(path[-1]): setting.value for path, setting in (from_env | from_line).items()}
    is_address_set = PORT in from_env or not from_line.keys().isdisjoint((HOST, PORT))
    tree, fault = _tree(file)
    in_file = tree["server"] if isinstance(tree.get("server"), dict) else {}
    try:
        address = _decoded({**in_file, **given}, "host", "port")
    except Fault as exc:
        fault, address = fault or provenance.error(exc), ServerConfig()
    if fault is not None and is_address_set:
        fault, address = None, _given_address(given, provenance)
    return PartialConfig(
        source=source,
        url=address_of(address.host, address.port),
        fault=fault,
        is_address_set=is_address_set,
        admin_keys=_keys({**in_file, **given}, "admin_keys"),
        api_keys=_keys({**in_file, **given}, "api_keys"),
        warnings=tuple(loading.warnings_of(unknown, tree)),
    )


def address_of(host: str, port: int) -> str:
    """Return the URL of a proxy that listens on *host* and *port*."""
    host = _ANY.get(host, host)
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def _tree(file: Origin) -> tuple[dict[str, Any], ConfigError | None]:
    try:
        return loading.parsed(file), None
    except ConfigError as exc:
        return {}, exc


def _decoded(table: Mapping[str, Any], *names: str) -> ServerConfig:
    return decoded({name: table[name] for name in names if name in table}, ServerConfig, ("server",))


def _given_address(given: Mapping[str, Any], provenance: Provenance) -> ServerConfig:
    try:
        return _decoded(given, "host", "port")
    except Fault as fault:
        raise provenance.error(fault) from fault


def _keys(table: Mapping[str, Any], name: Literal["admin_keys", "api_keys"]) -> tuple[str, ...]:
    try:
        server = _decoded(table, name)
    except Fault:
        return ()
    return tuple(map(reference_of, server.admin_keys if name == "admin_keys" else server.api_keys))
