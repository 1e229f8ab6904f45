"""Decides whether a simulated server accepts a request, by its API key and its ``Host``."""

import ipaddress
import socket
from typing import Final

from nexus.simulator.dialects import Dialect
from nexus.simulator.messages import Request

LOCAL_SUFFIXES: Final = (".localhost", ".local", ".internal")


def has_valid_key(request: Request, key: str | None, dialect: Dialect) -> bool:
    """Return whether the request carries the API key that its path requires."""
    is_guarded = request.path.startswith(dialect.guarded_prefixes) and request.path not in dialect.open_paths
    if key is None or not is_guarded:
        return True
    if request.header("Authorization") == f"Bearer {key}":
        return True
    return dialect.takes_x_api_key and request.header("X-Api-Key") == key


def has_local_host(request: Request) -> bool:
    """Return whether a server on loopback accepts the ``Host``, by the rules of Ollama 0.33."""
    host = _without_port(request.header("Host")).lower()
    if host in {"", "localhost", socket.gethostname().lower()} or host.endswith(LOCAL_SUFFIXES):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_private


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]
