"""Backends that are this proxy itself: each request to one comes back, until it has passed too many proxies."""

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
    bound = config.server.host.strip("[]").removesuffix(".").lower()
    own = {bound} | _REACHED_BY.get(bound, frozenset())
    if bound in _ALL_ADDRESSES:
        own.add(socket.gethostname().strip(".").lower())
    for backend in config.backends:
        url = urlsplit(backend.url)
        is_own = url.scheme == "http" and (url.port or 80) == port and (url.hostname or "").removesuffix(".") in own
        if is_own and backend.https_proxy is None:
            yield (
                f"backend '{backend.name}': {backend.url} is where this proxy itself listens, so its requests come"
                " back; write the address of the server, or listen on another port"
            )
