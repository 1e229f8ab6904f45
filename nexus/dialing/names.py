"""The addresses behind host names: kept for a while, and beyond that for as long as no name server can tell."""

import asyncio
import ipaddress
import socket
from typing import Final

import msgspec
import structlog
from aiohttp.resolver import AsyncResolver, ThreadedResolver

NAME_TTL_S: Final = 30.0
RETRY_S: Final = 5.0
"""How long the last good addresses serve before a name that could not be looked up is looked up again."""
SECOND_LOOK_S: Final = 1.0
"""How long a look-up may take when there are addresses to fall back on: within this, connecting is still in time."""
MAX_NAMES: Final = 256
NO_SUCH_NAME: Final = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)})
"""Answers of the system's resolver that are certain: the name has no address any more."""

AddressInfo = tuple[int, int, int, str, tuple[str, int] | tuple[str, int, int, int]]

log = structlog.get_logger("nexus.dialing")


class _Known(msgspec.Struct):
    """The addresses of one name."""

    infos: list[AddressInfo]
    fresh_until: float
    """Of the loop's clock."""
    is_failing: bool = False
    """Whether the last look-up failed."""


_names: dict[tuple[str, int], _Known] = {}


class NameLookupError(OSError):
    """A host name has no address, or no name server says which."""


async def resolve(host: str, port: int) -> list[AddressInfo]:
    """Return where *host* listens; the last good addresses when it cannot be looked up now.

    :raises NameLookupError: there are none.
    """
    if literal := _literal(host, port):
        return [literal]
    clock = asyncio.get_running_loop().time
    known = _names.get((host, port))
    if known is not None and known.fresh_until > clock():
        return known.infos
    if known is not None:
        # Connections made in the meantime use what is known, without a look-up of their own.
        known.fresh_until = clock() + RETRY_S
    try:
        async with asyncio.timeout(None if known is None else SECOND_LOOK_S):
            infos = await _look_up(host, port)
    except OSError as exc:  # a TimeoutError is one
        return _last_good(host, port, exc)
    _names.pop((host, port), None)
    if len(_names) >= MAX_NAMES:
        del _names[next(iter(_names))]
    _names[host, port] = _Known(infos, clock() + NAME_TTL_S)
    return infos


async def addresses_of(host: str) -> tuple[str, ...]:
    """Look *host* up now, whatever is known of it, and return its addresses. :raises OSError: there are none."""
    if _literal(host, 0):
        return (host,)
    return tuple(dict.fromkeys(str(info[4][0]) for info in await _look_up(host, 0)))


def doubt(host: str, port: int) -> None:
    """Look *host* up again for the next connection; unless no name server answers then, its addresses are replaced."""
    if (known := _names.get((host, port))) is not None and not known.is_failing:
        known.fresh_until = 0.0


def _last_good(host: str, port: int, failure: OSError) -> list[AddressInfo]:
    known = _names.get((host, port))
    reason = "no answer in time" if isinstance(failure, TimeoutError) else failure.strerror or str(failure)
    if known is None or failure.errno in NO_SUCH_NAME:
        _names.pop((host, port), None)
        raise NameLookupError(failure.errno, reason) from failure
    if not known.is_failing:
        log.warning("name_lookup_failed", host=host, reason=reason)
    known.is_failing = True
    return known.infos


def _literal(host: str, port: int) -> AddressInfo | None:
    try:
        ip = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    if ip.version == 4:
        return socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port)
    scope = host.partition("%")[2]
    scope_id = socket.if_nametoindex(scope) if scope and not scope.isdigit() else int(scope or 0)
    # uvloop reads the interface in the host alone.
    return socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port, 0, scope_id)


async def _look_up(host: str, port: int) -> list[AddressInfo]:
    # Names under .local are answered by mDNS, which only the system's resolver speaks.
    order = (ThreadedResolver,) if host.endswith(".local") else (AsyncResolver, ThreadedResolver)
    failure: OSError | None = None
    for kind in order:
        resolver = kind()
        try:
            found = await resolver.resolve(host, port, socket.AF_UNSPEC)
        except OSError as exc:
            failure = exc
        else:
            return [(f["family"], socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (f["host"], f["port"])) for f in found]
        finally:
            await resolver.close()
    raise failure or OSError(f"{host} has no address")
