"""Decodes and checks one ``[[backends]]`` table that is not in the configuration file."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from nexus.config.faults import Fault, KeyPath
from nexus.config.quoting import shown_path
from nexus.config.rules import checks
from nexus.config.schema import BackendConfig, Config
from nexus.config.secrets import CREDENTIAL_HEADERS, Credentials, Secret, Vault
from nexus.config.sources.decoding import decoded

_AT: Final = ("backends", 0)
_HINT: Final = 'write "env:NAME" or "file:PATH"'


class LoadedBackend(msgspec.Struct, frozen=True, kw_only=True):
    """A checked backend with its resolved secrets."""

    config: BackendConfig
    key: Secret | None
    credentials: Credentials
    secrets: tuple[Secret, ...]
    """All secrets, for the log to hide."""


def load_backend(table: Mapping[str, Any], *, environ: Mapping[str, str]) -> LoadedBackend:
    """Return the backend that *table* describes, with its references resolved.

    :raises Fault: a key is wrong, or holds a secret; its path begins in the table.
    """
    vault = Vault(environ)
    try:
        config = decoded({"backends": [dict(table)]}, Config)
        for fault in _secrets_in(config.backends[0]):
            raise fault
        config, logins = checks.without_logins(config)
        config = checks.normalised(config)
        checks.check(config, insecure=True)
        (backend,) = config.backends
        key = vault.backend_keys(config).get(backend.name)
        credentials = vault.credentials(config, logins)[backend.name]
    except Fault as fault:
        raise Fault(fault.path[len(_AT) :], fault.problem, fault.hint) from fault
    return LoadedBackend(config=backend, key=key, credentials=credentials, secrets=tuple(vault.found))


def _secrets_in(backend: BackendConfig) -> Iterator[Fault]:
    """Yield a fault for each plain secret, which only a file that its owner alone reads may hold."""
    if _has_login(backend.url):
        yield Fault((*_AT, "url"), "holds credentials", f"use basic_auth: {_HINT}")
    if backend.https_proxy is not None and _has_login(backend.https_proxy):
        yield Fault((*_AT, "https_proxy"), "holds credentials", _HINT)
    for name, value in backend.headers.items():
        if name.lower() in CREDENTIAL_HEADERS and not value.startswith(("env:", "file:")):
            yield Fault((*_AT, "headers", name), "expected a reference to a secret, not the secret", _HINT)
    for path, value in references_in(backend):
        # Reading a named pipe could block for ever.
        if value.startswith("file:") and not _is_file(value.removeprefix("file:")):
            yield Fault((*_AT, *path), f"no such file: {shown_path(value.removeprefix('file:'))}")


def references_in(backend: BackendConfig) -> Iterator[tuple[KeyPath, str]]:
    """Yield each value of *backend* that may be a reference to a secret, with its path."""
    if backend.api_key_env is not None:
        yield ("api_key_env",), f"env:{backend.api_key_env}"
    for key in ("api_key", "basic_auth", "https_proxy"):
        if (value := getattr(backend, key)) is not None:
            yield (key,), value
    for table in ("headers", "query"):
        for name, value in getattr(backend, table).items():
            yield (table, name), value


def _has_login(url: str) -> bool:
    try:
        return "@" in urlsplit(url).netloc
    except ValueError:
        return "@" in url


def _is_file(name: str) -> bool:
    try:
        return Path(name).is_file()
    except (OSError, ValueError):
        return False
