"""Opens a tunnel to a backend through an HTTP proxy, with CONNECT."""

import asyncio
import re
import socket
from base64 import b64encode
from typing import Final

import msgspec

from nexus.error_codes import UpstreamFault
from nexus.errors import UpstreamError

MAX_RESPONSE_BYTES: Final = 16 * 1024
_CHUNK_BYTES: Final = 4096
_STATUS: Final = re.compile(rb"HTTP/1\.[01] ([0-9]{3})[ \r]")
_NEEDS_LOGIN: Final = 407


class Proxy(msgspec.Struct, frozen=True):
    """An HTTP proxy, reached without TLS."""

    host: str
    port: int
    login: str | None = None
    """``user:password``; None: it needs none."""

    def __repr__(self) -> str:
        return f"Proxy({self.host}:{self.port})"


async def open_tunnel(sock: socket.socket, proxy: Proxy, host: str, port: int) -> None:
    """Send CONNECT to *proxy*, to which *sock* is connected; afterwards *sock* leads to *host*.

    :raises UpstreamError: REFUSED: the proxy does not open the tunnel.
    :raises OSError: the connection to it broke.
    """
    loop = asyncio.get_running_loop()
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    login = "" if proxy.login is None else b64encode(proxy.login.encode()).decode()
    credentials = f"Proxy-Authorization: Basic {login}\r\n" if login else ""
    await loop.sock_sendall(sock, f"CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n{credentials}\r\n".encode())
    response = b""
    while b"\r\n\r\n" not in response:
        chunk = await loop.sock_recv(sock, _CHUNK_BYTES)
        response += chunk
        if not chunk or len(response) > MAX_RESPONSE_BYTES:
            raise UpstreamError(UpstreamFault.REFUSED, "the https_proxy closed the connection, or does not speak HTTP")
    _check(response)


def _check(response: bytes) -> None:
    found = _STATUS.match(response)
    status = int(found[1]) if found else 0
    if status == _NEEDS_LOGIN:
        raise UpstreamError(UpstreamFault.REFUSED, "the https_proxy requires other credentials (407)")
    if not 200 <= status < 300:
        raise UpstreamError(UpstreamFault.REFUSED, f"the https_proxy refused the tunnel (status {status or 'unknown'})")
    if not response.endswith(b"\r\n\r\n"):
        # Further bytes would be taken for the backend's, which has received no request yet.
        raise UpstreamError(UpstreamFault.REFUSED, "the https_proxy sent data after its response")
