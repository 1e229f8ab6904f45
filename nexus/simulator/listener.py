"""A listening socket that can be closed and reopened on the same port."""

import asyncio
import socket
from collections.abc import Callable
from ssl import SSLContext


class Listener:
    """Accepts or refuses connections on one port."""

    def __init__(self, connect: Callable[[], asyncio.Protocol], host: str, port: int, tls: SSLContext | None) -> None:
        self._connect = connect
        self._tls = tls
        self._family = socket.AF_INET6 if ":" in host else socket.AF_INET
        # A second socket, bound but not listening, reserves the port while connections are refused.
        self._reservation = socket.socket(self._family, socket.SOCK_STREAM)
        self._reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._reservation.bind((host, port))
        self.address: tuple[str, int] = self._reservation.getsockname()[:2]
        self._server: asyncio.Server | None = None
        self._opening: asyncio.Task[None] | None = None
        self._socket: socket.socket | None = None

    def open(self) -> None:
        """Listen. Clients can connect at once, and are served from the next turn of the loop."""
        if self._socket is None:
            self._socket = socket.create_server(self.address, family=self._family, backlog=1024)
            self._opening = asyncio.get_running_loop().create_task(self._serve(self._socket), name="simulator listener")

    def close(self) -> None:
        """Refuse new connections; existing ones stay open."""
        if self._opening is not None:
            self._opening.cancel()
        if self._server is not None:
            self._server.close()
        if self._socket is not None:
            self._socket.close()
        self._opening = self._server = self._socket = None

    def release(self) -> None:
        self.close()
        self._reservation.close()

    async def _serve(self, listening: socket.socket) -> None:
        # In two steps: a cancellation between them still finds the server in self._server.
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._connect, sock=listening, ssl=self._tls, start_serving=False)
        await self._server.start_serving()
