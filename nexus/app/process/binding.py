"""Binds the listening sockets, and explains why that fails."""

import asyncio
import errno
import os
import socket
from collections.abc import Iterable
from typing import Final

import msgspec

from nexus.app.process.port_owner import owner_of
from nexus.config.partial import address_of
from nexus.errors import ConfigError, StartError

BACKLOG: Final = 1024
MAX_OTHER_PORTS: Final = 10
NOT_HERE: Final = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})
"""Errors for an address that the machine does not have, such as ``::1`` without IPv6."""

_Address = tuple[socket.AddressFamily, tuple[object, ...]]


class PortTaken(StartError):
    """Another process listens on the port.

    :param url: its address, for clients on this machine.
    """

    def __init__(self, text: str, *, url: str, owner: str) -> None:
        super().__init__(text)
        self.url = url
        self.owner = owner


class Listening(msgspec.Struct, frozen=True):
    """Bound sockets: connections wait in their backlog until they are accepted."""

    sockets: tuple[socket.socket, ...]
    url: str
    """The address for clients on this machine."""
    moved_from: PortTaken | None = None
    """Why another port is used than the configured one; None: it is the configured one."""

    @property
    def port(self) -> int:
        port: int = self.sockets[0].getsockname()[1]
        return port

    def close(self) -> None:
        for sock in self.sockets:
            sock.close()


async def listen(
    host: str, port: int, *, may_move: bool, may_share: bool = False, only_bind: bool = False
) -> Listening:
    """Listen on *port* of every address of *host*.

    :param may_move: whether one of the next ports may be used if *port* is taken.
    :param may_share: whether another process of the same user may listen on the same port (SO_REUSEPORT).
    :param only_bind: whether the sockets are only bound, so that no client can connect.
    :raises PortTaken: every port that may be used is taken.
    :raises ConfigError: the process has no permission to listen there.
    :raises StartError: it cannot listen there for another reason.
    """
    addresses = await _addresses(host, port)
    moved_from: PortTaken | None = None
    for candidate in range(port, min(port + MAX_OTHER_PORTS, 65535) + 1 if may_move else port + 1):
        try:
            sockets = _sockets(addresses, candidate, backlog=None if only_bind else BACKLOG, may_share=may_share)
        except OSError as exc:
            if exc.errno != errno.EADDRINUSE:
                raise _cannot_listen(host, candidate, exc) from exc
            # The error for several taken ports explains the first.
            moved_from = moved_from or _taken(host, candidate, tries_others=may_move)
            continue
        return Listening(sockets, address_of(host, candidate), moved_from)
    assert moved_from is not None  # noqa: S101 - one port at least was tried
    raise moved_from


async def _addresses(host: str, port: int) -> tuple[_Address, ...]:
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host.strip("[]"), 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as exc:
        raise _cannot_listen(host, port, exc) from exc
    # The hosts file may have a name twice.
    return tuple(dict.fromkeys((family, address) for family, _, _, _, address in found))


def _sockets(
    addresses: Iterable[_Address], port: int, *, backlog: int | None, may_share: bool
) -> tuple[socket.socket, ...]:
    """Return a socket for each of *addresses* that this machine has; raise OSError.

    :param backlog: None: only bind.
    """
    sockets: list[socket.socket] = []
    absent: OSError | None = None
    try:
        for family, address in addresses:
            try:
                sockets.append(_socket(family, (address[0], port, *address[2:]), backlog, may_share=may_share))
            except OSError as exc:
                # Without IPv6, the machine has only one of the two addresses of `localhost`.
                if exc.errno not in NOT_HERE:
                    raise
                absent = exc
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    if not sockets and absent is not None:
        raise absent
    return tuple(sockets)


def _socket(
    family: socket.AddressFamily, address: tuple[object, ...], backlog: int | None, *, may_share: bool
) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        # Without it, a restart would have to wait until the old connections have left TIME_WAIT.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if may_share:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setblocking(False)  # noqa: FBT003 - its only parameter
        sock.bind(address)
        if backlog is not None:
            # Two processes can bind the same port with SO_REUSEADDR, but only one can listen.
            sock.listen(backlog)
    except BaseException:
        sock.close()
        raise
    return sock


def _taken(host: str, port: int, *, tries_others: bool) -> PortTaken:
    owner = owner_of(port)
    hint = "stop it, or choose another port with --port or server.port"
    ports = f"ports {port} to {min(port + MAX_OTHER_PORTS, 65535)}" if tries_others else f"port {port}"
    used = f"the first is in use by {owner}" if tries_others else f"it is in use by {owner}"
    return PortTaken(f"cannot listen on {host} {ports}: {used}; {hint}", url=address_of(host, port), owner=owner)


def _cannot_listen(host: str, port: int, exc: OSError | UnicodeError) -> StartError | ConfigError:
    place = f"{host} port {port}"
    if isinstance(exc, UnicodeError):
        return StartError(f"cannot listen on {place}: this is not a host name; choose another with --host")
    # Errors of name resolution have numbers of their own.
    reason = exc.strerror if isinstance(exc, socket.gaierror) or not exc.errno else os.strerror(exc.errno)
    if exc.errno in {errno.EACCES, errno.EPERM} and not isinstance(exc, socket.gaierror):
        # A retry would fail in the same way, so this is no StartError.
        hint = "low ports need root or CAP_NET_BIND_SERVICE; choose another with --port or server.port"
        return ConfigError(f"cannot listen on {place}: {reason}; {hint}")
    return StartError(f"cannot listen on {place}: {reason or exc}; choose another with --host or server.host")
