"""Backends that are this proxy itself: each request to one comes back, until it has passed too many proxies."""

import ipaddress
import socket
from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

from nexus.config.schema import Config

_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})
_REACHED_BY: Final = {
    "127.0.0.1": frozenset({"127.0.0.1", "localhost"}),
    "::1": frozenset({"::1", "localhost"}),
    "localhost": _LOOPBACK,
    "0.0.0.0": frozenset({"127.0.0.1", "localhost"}),  # noqa: S104 - recognised, not bound
    "::": _LOOPBACK,
}
"""The names on this machine by which an address that is bound is reached."""
_ALL_ADDRESSES: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104 - the same


def warnings_of_circles(config: Config, port: int) -> Iterator[str]:
    """Yield a warning for each configured backend whose URL is where the proxy itself listens.

    :param port: the port that it listens on, which need not be the configured one.
    """
    for backend in config.backends:
        if leads_here(backend.url, config.server.host, port) and backend.https_proxy is None:
            yield (
                f"backend '{backend.name}': {backend.url} is where this proxy itself listens, so its requests come"
                " back; write the address of the server, or listen on another port"
            )


def leads_here(url: str, host: str, port: int) -> bool:
    """Whether *url* leads to a proxy of this machine that listens on *host* and *port*."""
    parts = urlsplit(url)
    if parts.scheme != "http" or (parts.port or 80) != port:
        return False
    bound = host.strip("[]").removesuffix(".").lower()
    own = {bound} | _REACHED_BY.get(bound, frozenset())
    if bound in _ALL_ADDRESSES:
        own.add(socket.gethostname().strip(".").lower())
    name = (parts.hostname or "").removesuffix(".")
    return name in own or (bound in _ALL_ADDRESSES and _is_of_this_machine(name))


def _is_of_this_machine(host: str) -> bool:
    """Whether *host* is an address of this machine: only such a one can be bound."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        ipaddress.ip_address(host)
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((host, 0))
    except (OSError, ValueError):
        return False
    return True
