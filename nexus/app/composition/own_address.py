"""Finds backends whose address is the proxy's own: their requests would loop."""

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
"""For each bound address, the names that reach it on this machine."""
_ALL_ADDRESSES: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104 - the same


def own_address_warnings(config: Config, port: int) -> Iterator[str]:
    """Yield a warning for each configured backend whose URL is the address of the proxy.

    :param port: the actual port, which may differ from the configured one.
    """
    for backend in config.backends:
        if is_own_address(backend.url, config.server.host, port) and backend.https_proxy is None:
            yield (
                f"backend '{backend.name}': {backend.url} is the address of this proxy itself, so its requests would"
                " loop; set the address of the server, or listen on another port"
            )


def is_own_address(url: str, host: str, port: int) -> bool:
    """Whether *url* is the address of a proxy on this machine that listens on *host* and *port*."""
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
    """Whether *host* is an address of this machine: no other can be bound."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        ipaddress.ip_address(host)
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((host, 0))
    except (OSError, ValueError):
        return False
    return True
