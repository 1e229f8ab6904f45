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

from nexus.dialing import names
from nexus.dialing.lookups import AddressInfo
from nexus.dialing.metadata import MetadataAddressError, is_metadata
from nexus.dialing.tls import verifying_context
from nexus.dialing.tunnel import Proxy, open_tunnel
from nexus.dialing.upstream_settings import UpstreamSettings
from nexus.errors import RequestError, UpstreamError, UpstreamFault

HAPPY_EYEBALLS_DELAY_S: Final = 0.25

OUR_SHORTAGES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""Errors that say nothing of the backend: it is this process that has no file or memory left for a connection."""

ProtocolT = TypeVar("ProtocolT", bound=asyncio.Protocol)


class Address(msgspec.Struct, frozen=True):
    """Where a backend listens."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    proxy: Proxy | None = None
    """On the way to it."""
    may_be_metadata: bool = False
    """Whether it may be at an address where clouds keep a machine's secrets."""

    @property
    def next_hop(self) -> tuple[str, int]:
        """The host and port to connect to."""
        return (self.host, self.port) if self.proxy is None else (self.proxy.host, self.proxy.port)

    @property
    def authority(self) -> str:
        """The value of the Host header: Ollama refuses any other than its own."""
        # The zone of a link-local address means something on this machine only (RFC 6874, section 4).
        host = f"[{self.host.partition('%')[0]}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"


def address_of(url: str, settings: UpstreamSettings) -> Address:
    """Return the address in a normalised backend URL, and how *settings* says that it is reached."""
    parts = urlsplit(url)
    is_tls = parts.scheme == "https"
    port = parts.port or (443 if is_tls else 80)
    tls = settings.tls or verifying_context() if is_tls else None
    host = parts.hostname or ""
    # In a URL, the % before the interface of a link-local address is written %25 (RFC 6874, section 2).
    return Address(
        host.replace("%25", "%", 1) if ":" in host else host, port, tls, settings.proxy, settings.is_from_file
    )


async def dial(
    address: Address, factory: Callable[[], ProtocolT], *, timeout_s: float, first: bytes | None = None
) -> ProtocolT:
    """Connect to *address*.

    :param first: of several addresses behind its name, the one to try before the others, packed.
    :raises UpstreamError: REFUSED, CONNECT_TIMEOUT or TLS.
    :raises RequestError: ``overloaded``, when it is not the backend's doing.
    """
    try:
        async with asyncio.timeout(timeout_s):
            return await _connect(address, factory, first)
    except TimeoutError as exc:
        raise UpstreamError(UpstreamFault.CONNECT_TIMEOUT, f"no connection within {timeout_s:g} s") from exc
    except names.NameLookupError as exc:
        raise UpstreamError(UpstreamFault.REFUSED, "cannot connect: its host name cannot be looked up") from exc
    except MetadataAddressError as exc:
        # Without the address, which is no affair of the client's.
        raise UpstreamError(
            UpstreamFault.REFUSED,
            "cannot connect: it leads to a link-local address, and only the configuration file may name one",
        ) from exc
    except OSError as exc:
        if exc.errno in OUR_SHORTAGES:
            raise RequestError("overloaded", "the proxy cannot open another connection", retry_after_s=1) from exc
        # In our own words: asyncio's name the backend's address, which is no affair of the client's.
        reason = os.strerror(exc.errno) if exc.errno and exc.errno > 0 else type(exc).__name__
        place = "" if address.proxy is None else " to its https_proxy"
        raise UpstreamError(UpstreamFault.REFUSED, f"cannot connect{place}: {reason}") from exc
    except ValueError as exc:
        # From the codec for host names: an empty label, or one that is too long.
        raise UpstreamError(UpstreamFault.REFUSED, "cannot connect: not a host name") from exc


async def _connect(address: Address, factory: Callable[[], ProtocolT], first: bytes | None) -> ProtocolT:
    sock = await _reach(address, first)
    try:
        _, connection = await asyncio.get_running_loop().create_connection(
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


async def _reach(address: Address, first: bytes | None) -> socket.socket:
    """Return a socket whose other end is the backend, whatever lies between."""
    host, port = address.next_hop
    infos = await names.resolve(host, port)
    if not address.may_be_metadata:
        infos = _without_metadata(host, infos)
    if first is not None:
        infos.sort(key=lambda info: names.packed(str(info[4][0])) != first)
    try:
        sock = await aiohappyeyeballs.start_connection(infos, happy_eyeballs_delay=HAPPY_EYEBALLS_DELAY_S)
    except BaseException:
        # It may have moved: the next attempt asks again where it is.
        names.doubt(host, port)
        raise
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # A backend that loses power says nothing: without keep-alive its streams would look idle for ever.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if address.proxy is not None:
            await open_tunnel(sock, address.proxy, address.host, address.port)
    except BaseException:
        sock.close()
        raise
    return sock


def _without_metadata(host: str, infos: list[AddressInfo]) -> list[AddressInfo]:
    """Return the addresses of *infos* that may be connected to. A name may lead elsewhere than when it was checked.

    :raises MetadataAddressError: none is left.
    """
    allowed = [info for info in infos if not is_metadata(ipaddress.ip_address(str(info[4][0]).partition("%")[0]))]
    if not allowed:
        raise MetadataAddressError(host, str(infos[0][4][0]))
    return allowed
