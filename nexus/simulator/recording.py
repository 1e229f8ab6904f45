"""Records the requests that a simulator received, and when clients disconnected."""

import asyncio
import time
from collections import deque

import msgspec

from nexus.simulator.messages import Request

MAX_RECORDS = 1000
MAX_RECORDED_BYTES = 64 * 1024 * 1024


class Record(msgspec.Struct, kw_only=True):
    """One request and its end. Times are monotonic."""

    number: int
    connection: int
    """The number of its connection."""
    request: Request
    began: float
    status: int | None = None
    """None before an answer begins."""
    fault: str | None = None
    """The kind of the fault that was played."""
    events_sent: int = 0
    ended: float | None = None
    """None while it is in flight."""
    client_left: float | None = None
    """When the client disconnected before the answer was complete; None if it did not."""

    @property
    def path(self) -> str:
        return self.request.path

    @property
    def body(self) -> bytes:
        return self.request.body


class Recorder:
    """Keeps the latest requests, limited in number and in bytes."""

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
        """Drop all records; requests in flight still count as active."""
        self.requests.clear()
        self._bytes = 0
