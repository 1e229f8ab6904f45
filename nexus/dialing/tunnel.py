"""A way through an HTTP proxy: after its answer to CONNECT, the socket leads to the backend."""

import asyncio
import re
import socket
from base64 import b64encode
from typing import Final

import msgspec

from nexus.errors import UpstreamError, UpstreamFault

MAX_ANSWER_BYTES: Final = 16 * 1024
_CHUNK_BYTES: Final = 4096
_STATUS: Final = re.compile(rb"HTTP/1\.[01] ([0-9]{3})[ \r]")
_NEEDS_LOGIN: Final = 407


class Proxy(msgspec.Struct, frozen=True):
    """An HTTP proxy, reached without TLS."""

    host: str
    port: int
    login: str | None = None
    """``user:password``, if it wants that."""

    def __repr__(self) -> str:
        return f"Proxy({self.host}:{self.port})"


async def open_tunnel(sock: socket.socket, proxy: Proxy, host: str, port: int) -> None:
    """Ask *proxy*, to which *sock* is connected, for a way to *host*.

    :raises UpstreamError: REFUSED, when it opens none.
    :raises OSError: the connection to it broke.
    """
    loop = asyncio.get_running_loop()
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    login = "" if proxy.login is None else b64encode(proxy.login.encode()).decode()
    credentials = f"Proxy-Authorization: Basic {login}\r\n" if login else ""
    await loop.sock_sendall(sock, f"CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n{credentials}\r\n".encode())
    answer = b""
    while b"\r\n\r\n" not in answer:
        chunk = await loop.sock_recv(sock, _CHUNK_BYTES)
        answer += chunk
        if not chunk or len(answer) > MAX_ANSWER_BYTES:
            raise UpstreamError(UpstreamFault.REFUSED, "the https_proxy closed the connection, or does not speak HTTP")
    _check(answer)


def _check(answer: bytes) -> None:
    found = _STATUS.match(answer)
    status = int(found[1]) if found else 0
    if status == _NEEDS_LOGIN:
        raise UpstreamError(UpstreamFault.REFUSED, "the https_proxy wants other credentials (407)")
    if not 200 <= status < 300:
        raise UpstreamError(UpstreamFault.REFUSED, f"the https_proxy opens no way to it (status {status or 'unknown'})")
    if not answer.endswith(b"\r\n\r\n"):
        # What comes now must be the backend's, and it has not been asked anything.
        raise UpstreamError(UpstreamFault.REFUSED, "the https_proxy sent more than an answer")
