"""One look-up of a host name: its addresses, and for how long they hold."""

import asyncio
import socket
from collections.abc import Iterable
from typing import Any, Final

import aiodns
import msgspec

SYSTEM_TTL_S: Final = 30.0
"""The system's resolver, which knows names that no name server does, does not say how long an address holds."""
NO_SUCH_NAME: Final = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)})
"""Numbers of errors that are certain: the name has no address."""

AddressInfo = tuple[int, int, int, str, tuple[str, int] | tuple[str, int, int, int]]

_CERTAIN: Final = frozenset({aiodns.error.ARES_ENOTFOUND, aiodns.error.ARES_ENODATA})
_FLAGS: Final = socket.AI_ADDRCONFIG & getattr(socket, "AI_MASK", -1)


class Answer(msgspec.Struct, frozen=True):
    """Where a name leads."""

    infos: tuple[AddressInfo, ...]
    ttl_s: float
    """For how long, as the answer says."""
    is_of_system: bool = False
    """Whether the system's resolver gave it, after the name servers did not."""


async def look_up(host: str, port: int, *, asks_system: bool = True) -> Answer:
    """Ask the name servers, then the system's resolver, which knows further sources of names.

    :param asks_system: whether the system is asked too when no name server answers, which blocks a thread for a while;
        it is asked in any case when they deny the name.
    :raises OSError: no address; its number is in :data:`NO_SUCH_NAME` when that is certain.
    """
    # Names under .local are answered by mDNS, which only the system's resolver speaks.
    if not host.endswith(".local"):
        try:
            return await ask_name_servers(host, port)
        except OSError as exc:
            if exc.errno not in NO_SUCH_NAME and not asks_system:
                raise
    return await ask_system(host, port)


async def ask_name_servers(host: str, port: int, nameservers: Iterable[str] = ()) -> Answer:
    """Ask by DNS, and look into the file of hosts. :raises OSError: as :func:`look_up`.

    :param nameservers: none: those of the system.
    """
    # One for each look-up: it reads the system's settings anew and has no cache, so that a doubt is resolved.
    resolver = aiodns.DNSResolver(nameservers=list(nameservers) or None)
    try:
        found = await resolver.getaddrinfo(
            host, family=socket.AF_UNSPEC, port=port, type=socket.SOCK_STREAM, flags=_FLAGS
        )
    except aiodns.error.DNSError as exc:
        code, *text = exc.args
        reason = str(text[0]) if text else str(exc)
        raise OSError(socket.EAI_NONAME if code in _CERTAIN else socket.EAI_AGAIN, reason) from exc
    finally:
        await resolver.close()
    infos = tuple(_place_of(node, port) for node in found.nodes)
    if not infos:
        raise OSError(socket.EAI_NONAME, "it has no address")
    return Answer(infos, float(min(node.ttl for node in found.nodes)))


async def ask_system(host: str, port: int) -> Answer:
    """Ask the system's resolver. :raises OSError: as :func:`look_up`."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=_FLAGS)
    infos: dict[AddressInfo, None] = {}
    for family, _, _, _, place in found:
        if len(place) == 2 and isinstance(place[0], int):
            continue  # of a Python without IPv6
        infos[family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", _with_interface(place)] = None
    return Answer(tuple(infos), SYSTEM_TTL_S, is_of_system=True)


def _place_of(node: Any, port: int) -> AddressInfo:
    host, _, *more = node.addr
    text = host.decode("ascii")
    place = (text, port, *more) if more else (text, port)
    return node.family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", _with_interface(place)


def _with_interface(place: Any) -> Any:
    """Return *place* with the interface of a link-local address in the host: uvloop reads it there alone."""
    host, port, *more = place
    if len(more) == 2 and more[1] and "%" not in host:
        return (f"{host}%{socket.if_indextoname(more[1])}", port, *more)
    return place
