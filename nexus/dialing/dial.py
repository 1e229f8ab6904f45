"""Opens a TCP or TLS connection to a backend: name, addresses, handshake, all under one deadline."""

import asyncio
import errno
import ipaddress
import os
import socket
import ssl
from collections.abc import Callable
from typing import Final, TypeVar
from urllib.parse import urlsplit

import aiohappyeyeballs
import msgspec
from aiohttp.resolver import AsyncResolver, ThreadedResolver

from nexus.dialing.tls import verifying_context
from nexus.errors import RequestError, UpstreamError, UpstreamFault

HAPPY_EYEBALLS_DELAY_S: Final = 0.25
NAME_TTL_S: Final = 30.0
MAX_NAMES: Final = 256

OUR_SHORTAGES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""Errors that say nothing of the backend: it is this process that has no file or memory left for a connection."""

ProtocolT = TypeVar("ProtocolT", bound=asyncio.Protocol)
AddressInfo = tuple[int, int, int, str, tuple[str, int] | tuple[str, int, int, int]]


class Address(msgspec.Struct, frozen=True):
    """Where a backend listens."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None

    @property
    def authority(self) -> str:
        """The value of the Host header: Ollama refuses any other than its own."""
        # The zone of a link-local address means something on this machine only (RFC 6874, section 4).
        host = f"[{self.host.partition('%')[0]}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"


def address_of(url: str, tls: ssl.SSLContext | None) -> Address:
    """Return the address in a normalised backend URL.

    :param tls: for an ``https`` URL; None for the system's certificate authorities.
    """
    parts = urlsplit(url)
    is_tls = parts.scheme == "https"
    port = parts.port or (443 if is_tls else 80)
    return Address(parts.hostname or "", port, tls or verifying_context() if is_tls else None)


async def dial(address: Address, factory: Callable[[], ProtocolT], *, timeout_s: float) -> ProtocolT:
    """Connect to *address*.

    :raises UpstreamError: REFUSED, CONNECT_TIMEOUT or TLS.
    :raises RequestError: ``overloaded``, when it is not the backend's doing.
    """
    try:
        async with asyncio.timeout(timeout_s):
            return await _connect(address, factory)
    except TimeoutError as exc:
        raise UpstreamError(UpstreamFault.CONNECT_TIMEOUT, f"no connection within {timeout_s:g} s") from exc
    except OSError as exc:
        if exc.errno in OUR_SHORTAGES:
            raise RequestError("overloaded", "the proxy cannot open another connection", retry_after_s=1) from exc
        # In our own words: asyncio's name the backend's address, which is no affair of the client's.
        reason = os.strerror(exc.errno) if exc.errno and exc.errno > 0 else type(exc).__name__
        raise UpstreamError(UpstreamFault.REFUSED, f"cannot connect: {reason}") from exc
    except ValueError as exc:
        # From the codec for host names: an empty label, or one that is too long.
        raise UpstreamError(UpstreamFault.REFUSED, "cannot connect: not a host name") from exc


async def _connect(address: Address, factory: Callable[[], ProtocolT]) -> ProtocolT:
    loop = asyncio.get_running_loop()
    infos = await _resolve(address.host, address.port)
    try:
        sock = await aiohappyeyeballs.start_connection(infos, happy_eyeballs_delay=HAPPY_EYEBALLS_DELAY_S, loop=loop)
    except BaseException:
        # It may have moved: the next attempt asks again where it is.
        _names.pop((address.host, address.port), None)
        raise
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # A backend that loses power says nothing: without keep-alive its streams would look idle for ever.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        _, connection = await loop.create_connection(
            factory, sock=sock, ssl=address.tls, server_hostname=address.host if address.tls else None
        )
    except OSError as exc:
        sock.close()
        if address.tls is None or exc.errno in OUR_SHORTAGES:
            raise
        # ssl.SSLError is an OSError; so is a handshake that the other side cuts.
        reason = getattr(exc, "reason", None) or exc.strerror or type(exc).__name__
        raise UpstreamError(UpstreamFault.TLS, f"TLS failed: {reason}") from exc
    except BaseException:
        sock.close()
        raise
    return connection


_names: dict[tuple[str, int], tuple[float, list[AddressInfo]]] = {}


async def _resolve(host: str, port: int) -> list[AddressInfo]:
    if literal := _literal(host, port):
        return [literal]
    now = asyncio.get_running_loop().time()
    known = _names.get((host, port))
    if known is not None and known[0] > now:
        return known[1]
    infos = await _look_up(host, port)
    if len(_names) >= MAX_NAMES:
        _names.clear()
    _names[host, port] = now + NAME_TTL_S, infos
    return infos


def _literal(host: str, port: int) -> AddressInfo | None:
    try:
        ip = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    if ip.version == 4:
        return socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port)
    scope = host.partition("%")[2]
    scope_id = socket.if_nametoindex(scope) if scope and not scope.isdigit() else int(scope or 0)
    return socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (str(ip), port, 0, scope_id)


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
