"""Opens a TCP or TLS connection to a backend: lookup, connect and handshake under one deadline."""

import asyncio
import errno
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
from nexus.error_codes import UpstreamFault
from nexus.errors import RequestError, UpstreamError

HAPPY_EYEBALLS_DELAY_S: Final = 0.25

LOCAL_SHORTAGES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""Errors that are not the backend's: this process has no file descriptor or memory left for a connection."""

ProtocolT = TypeVar("ProtocolT", bound=asyncio.Protocol)


class Address(msgspec.Struct, frozen=True):
    """The address of a backend, and how to connect to it."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    proxy: Proxy | None = None
    """None: it is connected to directly."""
    may_be_metadata: bool = False
    """Whether metadata addresses of clouds are allowed."""

    @property
    def next_hop(self) -> tuple[str, int]:
        """The host and port to connect to."""
        return (self.host, self.port) if self.proxy is None else (self.proxy.host, self.proxy.port)

    @property
    def authority(self) -> str:
        """The value of the Host header; Ollama refuses a wrong one."""
        # The zone of a link-local address is local to this machine and not sent (RFC 6874, section 4).
        host = f"[{self.host.partition('%')[0]}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"


def address_of(url: str, settings: UpstreamSettings) -> Address:
    """Return the address in a normalised backend URL, with the proxy and TLS of *settings*."""
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

    :param first: the packed address that is tried first if its name has several.
    :raises UpstreamError: REFUSED, CONNECT_TIMEOUT or TLS.
    :raises RequestError: ``overloaded``: this process has no resources left.
    """
    try:
        async with asyncio.timeout(timeout_s):
            return await _connect(address, factory, first)
    except TimeoutError as exc:
        raise UpstreamError(UpstreamFault.CONNECT_TIMEOUT, f"no connection within {timeout_s:g} s") from exc
    except names.NameLookupError as exc:
        raise UpstreamError(UpstreamFault.REFUSED, "cannot connect: its host name cannot be looked up") from exc
    except MetadataAddressError as exc:
        # Without the address, which clients must not see.
        raise UpstreamError(
            UpstreamFault.REFUSED,
            "cannot connect: it leads to a link-local address, and only the configuration file may name one",
        ) from exc
    except OSError as exc:
        # A frame of aiohappyeyeballs keeps it, and only the garbage collector would free both.
        exc.__traceback__ = None
        if exc.errno in LOCAL_SHORTAGES:
            raise RequestError("overloaded", "the proxy cannot open another connection", retry_after_s=1) from exc
        # Not asyncio's text, which contains the backend's address: clients must not see it.
        reason = os.strerror(exc.errno) if exc.errno and exc.errno > 0 else type(exc).__name__
        place = "" if address.proxy is None else " to its https_proxy"
        raise UpstreamError(UpstreamFault.REFUSED, f"cannot connect{place}: {reason}") from exc
    except ValueError as exc:
        # Raised by the codec for host names: a label is empty or too long.
        raise UpstreamError(UpstreamFault.REFUSED, "cannot connect: not a host name") from exc


async def _connect(address: Address, factory: Callable[[], ProtocolT], first: bytes | None) -> ProtocolT:
    sock = await _reach(address, first)
    try:
        _, connection = await asyncio.get_running_loop().create_connection(
            factory, sock=sock, ssl=address.tls, server_hostname=address.host if address.tls else None
        )
    except OSError as exc:
        sock.close()
        if address.tls is None or exc.errno in LOCAL_SHORTAGES:
            raise
        # Both ssl.SSLError and a handshake that the server aborts are an OSError.
        reason = getattr(exc, "reason", None) or exc.strerror or type(exc).__name__
        raise UpstreamError(UpstreamFault.TLS, f"TLS failed: {reason}") from exc
    except BaseException:
        sock.close()
        raise
    return connection


async def _reach(address: Address, first: bytes | None) -> socket.socket:
    """Return a socket that is connected to the backend, directly or through its proxy."""
    host, port = address.next_hop
    infos = await names.resolve(host, port)
    if not address.may_be_metadata:
        infos = _without_metadata(host, infos)
    if first is not None:
        infos.sort(key=lambda info: names.packed(str(info[4][0])) != first)
    try:
        sock = await aiohappyeyeballs.start_connection(infos, happy_eyeballs_delay=HAPPY_EYEBALLS_DELAY_S)
    except BaseException:
        # The backend may have moved, so the next attempt resolves its name again.
        names.doubt(host, port)
        raise
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # A backend that loses power closes nothing: without keep-alive its streams would look idle for ever.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if address.proxy is not None:
            await open_tunnel(sock, address.proxy, address.host, address.port)
    except BaseException:
        sock.close()
        raise
    return sock


def _without_metadata(host: str, infos: list[AddressInfo]) -> list[AddressInfo]:
    """Return the allowed addresses of *infos*. The name may have resolved to others when it was configured.

    :raises MetadataAddressError: none is left.
    """
    allowed = [info for info in infos if not is_metadata(str(info[4][0]))]
    if not allowed:
        raise MetadataAddressError(host, str(infos[0][4][0]))
    return allowed
