"""Accepts client connections, and ends them when the proxy drains or stops."""

import asyncio
from collections.abc import Awaitable, Callable

import aiohttp.http_parser

from nexus import tasks
from nexus.errors import RequestError, StartError
from nexus.proxy.client.connection import ClientConnection
from nexus.proxy.client.descriptors import Descriptors
from nexus.proxy.client.request_reader import Received
from nexus.proxy.client.starts import Starts
from nexus.proxy.write_batch import WriteBatch

Handle = Callable[[ClientConnection, Received], Awaitable[bool]]
"""Writes the reply to one request; returns whether another may follow on the connection."""
NoteAbandoned = Callable[[ClientConnection, tuple[Received, ...]], None]
"""Notes requests that were read, and whose client left before they were passed to :data:`Handle`; raises nothing."""
RefuseMalformed = Callable[[ClientConnection, RequestError, bool], bytes]
"""Returns the reply to a malformed request; the last argument tells whether it is a HEAD, whose reply has no body."""


class ProxyServer:
    """Makes a :class:`ClientConnection` for each client, and holds the settings of all."""

    def __init__(
        self,
        *,
        headers_s: float,
        keepalive_s: float,
        write_stall_s: float,
        batch: WriteBatch | None = None,
        max_files: int | None = None,
    ) -> None:
        """:param headers_s: how long a head may take to arrive.
        :param keepalive_s: how long a connection may stay open without a request.
        :param write_stall_s: how long a client may take nothing of what was written for it.
        :param batch: sends the writes of one turn of the event loop together; None: each is sent at once.
        :param max_files: the limit of file descriptors; None: no limit.
        """
        refuse_slow_parser()
        self.loop = asyncio.get_running_loop()
        self.headers_s = headers_s
        self.keepalive_s = keepalive_s
        self.write_stall_s = write_stall_s
        """May be changed; a new value applies to open connections too."""
        self.batch = batch
        self.starts = Starts(self.loop, batch)
        self.connections: set[ClientConnection] = set()
        """The open ones; each adds and removes itself."""
        self.descriptors = None if max_files is None else Descriptors(self.loop, max_files)
        self.is_draining = False
        """Whether each connection ends with its next reply, so that clients open new ones elsewhere."""
        self.to_shed = 0
        """How many connections still end with their next reply, because this worker has more than its share."""
        self.grace_s: float | None = None
        """How long connections may be idle while the proxy drains; None before that."""
        self.handle: Handle
        self.note_abandoned: NoteAbandoned
        self.refuse_malformed: RefuseMalformed
        """All are set before the first client connects."""

    def __call__(self) -> ClientConnection:
        return ClientConnection(self)

    def end(self, grace_s: float) -> None:
        """End each connection after its current request, or after *grace_s* without one."""
        self.is_draining = True
        self.grace_s = grace_s
        for client in self.connections:
            client.end(grace_s)

    async def ended(self, timeout_s: float) -> None:
        """Wait until all connections have ended, except those that were handed over, at most *timeout_s*."""
        serving = {client.task for client in self.connections if not client.is_handed_over}
        if serving:
            await asyncio.wait(serving, timeout=timeout_s)

    async def stop(self, timeout_s: float) -> None:
        """End all connections, and cut those that are still busy after *timeout_s*."""
        if self.descriptors is not None:
            self.descriptors.stop()
        self.end(0.0)
        serving = {client.task for client in self.connections}
        if serving:
            _, late = await asyncio.wait(serving, timeout=timeout_s)
            await tasks.stop(*late)


def refuse_slow_parser() -> None:
    """Raise StartError without aiohttp's C parser: most request smuggling bugs were in its Python parser."""
    module = aiohttp.http_parser.HttpRequestParser.__module__
    if module != "aiohttp._http_parser":
        raise StartError(
            "aiohttp runs without its C parser (AIOHTTP_NO_EXTENSIONS?); install a wheel of it that has one"
        )
