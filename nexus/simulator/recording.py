"""What a simulator received, and when each client left."""

import asyncio
import time
from collections import deque

import msgspec

from nexus.simulator.messages import Request

MAX_RECORDS = 1000
MAX_RECORDED_BYTES = 64 * 1024 * 1024


class Record(msgspec.Struct, kw_only=True):
    """One request, and how it ended. Instants are of the monotonic clock."""

    number: int
    connection: int
    """Equal for requests that came over the same connection."""
    request: Request
    began: float
    status: int | None = None
    """None: no answer was begun."""
    fault: str | None = None
    """The fault that was played on it."""
    events_sent: int = 0
    ended: float | None = None
    """None: still under way."""
    client_left: float | None = None
    """When the client's connection went away before the answer was complete; None: it did not."""

    @property
    def path(self) -> str:
        return self.request.path

    @property
    def body(self) -> bytes:
        return self.request.body


class Recorder:
    """Keeps the latest requests, bounded in number and in bytes."""

    def __init__(self) -> None:
        self.requests: deque[Record] = deque()
        self.active = 0
        self.is_idle = asyncio.Event()
        self.is_idle.set()
        self._count = 0
        self._bytes = 0

    def begin(self, request: Request, connection: int, fault: str | None) -> Record:
        self._count += 1
        self.active += 1
        self.is_idle.clear()
        record = Record(number=self._count, connection=connection, request=request, began=time.monotonic(), fault=fault)
        self.requests.append(record)
        self._bytes += len(request.body)
        while len(self.requests) > MAX_RECORDS or self._bytes > MAX_RECORDED_BYTES:
            self._bytes -= len(self.requests.popleft().body)
        return record

    def end(self, record: Record, *, client_left: bool) -> None:
        self.active -= 1
        if not self.active:
            self.is_idle.set()
        record.ended = time.monotonic()
        if client_left:
            record.client_left = record.ended

    def clear(self) -> None:
        """Forget what was received; requests under way still count as active."""
        self.requests.clear()
        self._bytes = 0
