"""A thread that renders and writes log entries, so that a full disk or a blocked pipe slows no request."""

import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, TextIO

from nexus.observability.log_rendering import Entry

MOST_ENTRIES: Final = 10_000
"""Entries that may wait; one more is dropped and counted."""
BATCH: Final = 64
"""Lines per write. Few, because rendering holds the interpreter and a write lets the event loop have it."""
GATHER_S: Final = 0.02
"""After the first entry of a quiet time, how long more are waited for: one wake-up for a burst, not for each line."""


class LogWriter:
    """A bounded queue of entries and the thread that empties it."""

    def __init__(self, render: Callable[[Entry], bytes], write: Callable[[bytes], None]) -> None:
        self.render = render
        """May be replaced at any time."""
        self.dropped = 0
        """Entries that were never written: the queue was full, or writing failed."""
        self._write = write
        self._entries: deque[Entry] = deque()
        self._awake = threading.Event()
        self._is_resting = False
        self._is_stopping = False
        self._told = 0
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()

    def put(self, entry: Entry) -> None:
        """Leave *entry* to the thread, or drop it when too many wait; never wait."""
        if len(self._entries) >= MOST_ENTRIES:
            self.dropped += 1
            return
        self._entries.append(entry)
        if self._is_resting:
            self._is_resting = False
            self._awake.set()

    def stop(self, timeout_s: float) -> None:
        """Write what waits, but not for longer than *timeout_s*: whoever reads the log may have stopped."""
        self._is_stopping = True
        self._awake.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while True:
            if self._entries:
                self._write_batch()
            elif self.dropped > self._told:
                self._tell_of_the_dropped()
            elif self._is_stopping:
                return
            else:
                self._rest()

    def _rest(self) -> None:
        self._awake.clear()
        self._is_resting = True
        # Looked at again, because one may have come between the last look and the line above.
        if not self._entries and not self._is_stopping:
            self._awake.wait()
        self._is_resting = False
        if not self._is_stopping:
            time.sleep(GATHER_S)

    def _write_batch(self) -> None:
        entries = [self._entries.popleft() for _ in range(min(BATCH, len(self._entries)))]
        if not self._try_to_write(entries):
            self.dropped += len(entries)

    def _tell_of_the_dropped(self) -> None:
        count, self._told = self.dropped - self._told, self.dropped
        fields = {"event": "log_lines_dropped", "count": count}
        self._try_to_write([(time.time_ns(), "warning", "nexus.observability", fields)])

    def _try_to_write(self, entries: Iterable[Entry]) -> bool:
        try:
            self._write(b"".join(map(self.render, entries)))
        except Exception:  # noqa: BLE001 - a background loop that must not die, and whose failures have no log to go to
            return False
        return True


def writer_to(stream: TextIO) -> Callable[[bytes], None]:
    """Return a function that writes bytes to *stream*, past its buffer where it is a real file."""
    try:
        fd = stream.fileno()
    except (OSError, ValueError, AttributeError):
        return lambda lines: _write_text(stream, lines)
    return lambda lines: _write_all(fd, lines)


def _write_all(fd: int, lines: bytes) -> None:
    rest = memoryview(lines)
    while rest:
        try:
            rest = rest[os.write(fd, rest) :]
        except BlockingIOError:
            # Whoever shares the terminal with us made it non-blocking.
            select.select((), (fd,), (), 1.0)


def _write_text(stream: TextIO, lines: bytes) -> None:
    stream.write(lines.decode())
    stream.flush()
