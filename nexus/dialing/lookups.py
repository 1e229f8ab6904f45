"""Looks up the addresses of a host name once, with their TTL."""

import asyncio
import socket
from collections.abc import Iterable
from typing import Any, Final

import aiodns
import msgspec

SYSTEM_TTL_S: Final = 30.0
"""The system's resolver reports no TTL."""
NO_SUCH_NAME: Final = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)})
"""Error numbers that mean that the name certainly has no address."""

AddressInfo = tuple[int, int, int, str, tuple[str, int] | tuple[str, int, int, int]]

_CERTAIN: Final = frozenset({aiodns.error.ARES_ENOTFOUND, aiodns.error.ARES_ENODATA})
_FLAGS: Final = socket.AI_ADDRCONFIG & getattr(socket, "AI_MASK", -1)


class Resolution(msgspec.Struct, frozen=True):
    """The addresses of a name."""

    infos: tuple[AddressInfo, ...]
    ttl_s: float
    is_of_system: bool = False
    """Whether it comes from the system's resolver, because the name servers had no answer."""


async def look_up(host: str, port: int, *, asks_system: bool = True) -> Resolution:
    """Query the name servers, then the system's resolver, which has further sources of names.

    :param asks_system: whether to query the system also if no name server responds, which blocks a thread for a while;
        it is always queried if they deny the name.
    :raises OSError: there is no address; its number is in :data:`NO_SUCH_NAME` if that is certain.
    """
    # Names under .local are resolved by mDNS, which only the system's resolver speaks.
    if not host.endswith(".local"):
        try:
            return await ask_name_servers(host, port)
        except OSError as exc:
            if exc.errno not in NO_SUCH_NAME and not asks_system:
                raise
    return await ask_system(host, port)


async def ask_name_servers(host: str, port: int, nameservers: Iterable[str] = ()) -> Resolution:
    """Query by DNS and the hosts file. :raises OSError: as :func:`look_up`.

    :param nameservers: none: those of the system.
    """
    # A new resolver for each lookup reads the system's settings again and has no cached answer.
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
    return Resolution(infos, float(min(node.ttl for node in found.nodes)))


async def ask_system(host: str, port: int) -> Resolution:
    """Query the system's resolver. :raises OSError: as :func:`look_up`."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=_FLAGS)
    infos: dict[AddressInfo, None] = {}
    for family, _, _, _, place in found:
        if len(place) == 2 and isinstance(place[0], int):
            continue  # a Python without IPv6 returns such places
        infos[family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", _with_interface(place)] = None
    return Resolution(tuple(infos), SYSTEM_TTL_S, is_of_system=True)


def _place_of(node: Any, port: int) -> AddressInfo:
    host, _, *more = node.addr
    text = host.decode("ascii")
    place = (text, port, *more) if more else (text, port)
    return node.family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", _with_interface(place)


def _with_interface(place: Any) -> Any:
    """Return *place* with the interface of a link-local address in its host, the only place where uvloop reads it."""
    host, port, *more = place
    if len(more) == 2 and more[1] and "%" not in host:
        return (f"{host}%{socket.if_indextoname(more[1])}", port, *more)
    return place
