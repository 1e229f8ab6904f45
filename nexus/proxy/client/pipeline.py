"""The requests of one connection that have come and are not answered yet."""

import asyncio
from collections import deque
from typing import Final

from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.streams import StreamReader
from aiohttp.web import RequestPayloadError

from nexus.proxy.client.request_reader import Request, RequestReader

MOST_WAITING: Final = 32
"""Requests that a client may send ahead of the answers; no more are read until half of them are answered."""


class Incoming:
    """Finds the requests in what a client sends, and keeps them in their order."""

    __slots__ = ("_held", "_reader", "_waiting", "is_deaf", "malformed")

    def __init__(self, protocol: BaseProtocol, loop: asyncio.AbstractEventLoop) -> None:
        """:param protocol: paused and resumed by the bodies of requests."""
        self._reader: RequestReader | None = RequestReader(protocol, loop)
        """None when no request is wanted any more."""
        self._waiting: deque[Request] = deque()
        self._held = b""
        """What came while too many requests were waiting."""
        self.is_deaf = False
        """Whether what comes is dropped: it is no request, or none is wanted any more."""
        self.malformed: tuple[HttpProcessingError, bool] | None = None
        """Why nothing more could be read, and whether that is the fault of a HEAD."""

    def __len__(self) -> int:
        """Return how many requests wait."""
        return len(self._waiting)

    @property
    def is_full(self) -> bool:
        return len(self._waiting) >= MOST_WAITING

    @property
    def has_room(self) -> bool:
        """Whether it is worth while to read on, after it was full."""
        return not self._held and len(self._waiting) <= MOST_WAITING // 2

    def read(self, data: bytes) -> bool:
        """Find the requests in *data*; return whether there are any. What comes while it is full is looked at later."""
        if self._held:
            self._held += data
            return False
        reader, waiting, is_found = self._reader, self._waiting, False
        while data and reader is not None and not self.is_deaf:
            if len(waiting) >= MOST_WAITING:
                self._held = data
                break
            try:
                request, data = reader.feed(data)
            except HttpProcessingError as exc:
                self.is_deaf = True
                self.malformed = exc, reader.is_head_method
                self._break_body(reader.unfinished)
                self._reader = None
                break
            if request is not None:
                waiting.append(request)
                is_found = True
                self.is_deaf = reader.is_upgraded
        return is_found

    def take(self) -> Request:
        """Take the next request, and read on when that had stopped because there were too many."""
        taken = self._waiting.popleft()
        if self._held and len(self._waiting) <= MOST_WAITING // 2:
            held, self._held = self._held, b""
            self.read(held)
        return taken

    def end(self) -> bool:
        """Note that nothing more comes; return False if that cuts the body of a request that was taken."""
        unfinished = self._reader.unfinished if self._reader is not None else None
        if unfinished is not None and not self._waiting:
            return False
        self.is_deaf = True
        self._break_body(unfinished)
        return True

    def drop(self) -> None:
        """Forget what waits, and take no more."""
        self.is_deaf = True
        # It knows the connection, which knows this: without this, only the collector would free them.
        self._reader = None
        self._waiting.clear()
        self._held = b""
        self.malformed = None

    def _break_body(self, body: StreamReader | None) -> None:
        """Note that the end of *body*, if there is one, will not come."""
        if body is not None:
            body.set_exception(RequestPayloadError())
            # Nothing of it is left to be read and thrown away before the connection is closed.
            body.feed_eof()
