"""Writes encoded log lines in a thread, so that a full disk or a blocked pipe does not delay requests."""

import fcntl
import os
import select
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Final, TextIO

import msgspec

MAX_LINES: Final = 10_000
"""The length of the queue; one more line is dropped and counted."""
MAX_BYTES: Final = 16 * 2**20
"""The size of all queued lines; most have a few hundred bytes, some have more."""
LINES_AT_ONCE: Final = 128
"""Lines per write. Joining this many holds the interpreter for ten microseconds."""
GATHER_S: Final = 0.2
"""Between two writes: the thread wakes up once for all lines of this interval, not once for each, because each time it
takes the interpreter from the event loop."""
URGENT_GATHER_S: Final = 0.02
"""How long an urgent line waits for further ones, so that a burst of them is written together."""
RETRY_S: Final = 1.0
"""How often the report of dropped lines is retried while writing fails and no new line arrives."""


class Loss(msgspec.Struct, frozen=True):
    """Dropped lines that the log does not report yet."""

    since_ns: int
    """When the first of them was dropped, in Unix nanoseconds."""
    queue_full: int = 0
    write_failed: int = 0
    error: str | None = None
    """Why the last write failed; None when none has."""

    def __add__(self, later: "Loss") -> "Loss":
        return Loss(
            self.since_ns,
            self.queue_full + later.queue_full,
            self.write_failed + later.write_failed,
            later.error or self.error,
        )


class LogWriter:
    """A bounded queue of lines and the thread that empties it."""

    def __init__(
        self,
        write: Callable[[memoryview], int],
        report: Callable[[Loss], bytes],
        turn: AbstractContextManager[object] | None = None,
    ) -> None:
        """:param turn: entered while lines are written, which other processes write to the same place; None: alone."""
        self.report = report
        """Makes the line that reports dropped ones. May be replaced at any time."""
        self.dropped = 0
        """Lines that were never written: the queue was full, or writing failed."""
        self._write = write
        self._turn = turn or nullcontext()
        self._lines: deque[bytes] = deque()
        self._waiting_bytes = 0
        # Reentrant, because a finalizer that the garbage collector runs under the lock may log.
        self._lock = threading.RLock()
        self._awake = threading.Event()
        self._is_resting = False
        """Whether the thread waits for any line."""
        self._is_woken = False
        """Whether the thread was woken since it last took lines."""
        self._is_stopping = False
        self._is_given_up = False
        self._is_failing = False
        self._error = ""
        """Why the last write failed."""
        self._emptied_at = time.monotonic()
        """When the queue was last empty, or a report was last attempted."""
        self._cut = b""
        """The rest of a line that a failed write has begun."""
        self._unreported: Loss | None = None
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()

    def put(self, line: bytes, *, is_urgent: bool = False) -> None:
        """Queue *line*, which ends with its only newline, or drop it when the queue is full; never blocks.

        The thread writes it at once after a pause, and otherwise within :data:`GATHER_S`, or within
        :data:`URGENT_GATHER_S` if it *is_urgent*.
        """
        # Each request comes by here, and `with` takes twice as long as these calls.
        self._lock.acquire()
        try:
            waiting = len(self._lines)
            if waiting >= MAX_LINES or self._waiting_bytes + len(line) > MAX_BYTES:
                self._drop(Loss(time.time_ns(), queue_full=1))
                return
            self._lines.append(line)
            self._waiting_bytes += len(line)
            has_to_wake = self._is_resting or (
                not self._is_woken and (is_urgent or waiting > MAX_LINES // 2 or self._waiting_bytes > MAX_BYTES // 2)
            )
            if has_to_wake:
                self._is_resting, self._is_woken = False, True
        finally:
            self._lock.release()
        if has_to_wake:
            self._awake.set()

    def stop(self, timeout_s: float) -> None:
        """Write the queued lines within *timeout_s*, because the reader of the log may have stopped."""
        self._is_stopping = True
        self._awake.set()
        self._thread.join(timeout_s)
        self._is_given_up = True
        with self._lock:
            self.dropped += len(self._lines)
            self._lines.clear()

    def _run(self) -> None:
        while True:
            lines = self._take()
            if lines:
                self._write_lines(lines)
            else:
                self._emptied_at = time.monotonic()
            if self._has_to_catch_up(after=lines):
                self._catch_up()
            if not lines and self._is_stopping:
                # No further write will complete it.
                self.dropped += bool(self._cut)
                return
            if not lines:
                self._rest()
            elif len(lines) < LINES_AT_ONCE or self._is_failing:
                self._gather()

    def _take(self) -> list[bytes]:
        with self._lock:
            self._is_woken = False
            self._awake.clear()
            take = self._lines.popleft
            lines = [take() for _ in range(min(LINES_AT_ONCE, len(self._lines)))]
            self._waiting_bytes = self._waiting_bytes - sum(map(len, lines)) if self._lines else 0
        return lines

    def _rest(self) -> None:
        """Wait for a line, or until a failed write is due again."""
        self._awake.clear()
        self._is_resting = True
        # A line may have been queued just before the flag was set.
        if not self._lines and not self._is_stopping:
            self._awake.wait(RETRY_S if self._cut or self._unreported is not None else None)
        self._is_resting = False

    def _gather(self) -> None:
        """Let lines gather, until one is urgent, the queue is half full or the writer stops."""
        if not self._is_stopping and self._awake.wait(GATHER_S) and not self._is_stopping:
            time.sleep(URGENT_GATHER_S)

    def _has_to_catch_up(self, *, after: Sequence[bytes]) -> bool:
        if not self._cut and self._unreported is None:
            return False
        # Queued lines go first, unless the queue never becomes empty; right after a failure, another write would fail.
        return not after or (not self._is_failing and time.monotonic() - self._emptied_at > RETRY_S)

    def _catch_up(self) -> None:
        """Write the rest of a cut line, and the report of dropped lines."""
        with self._lock:
            loss, self._unreported = self._unreported, None
        if self._write_out([self.report(loss)] if loss is not None else []) and loss is not None:
            with self._lock:
                self._unreported = loss if self._unreported is None else loss + self._unreported
        self._emptied_at = time.monotonic()

    def _write_lines(self, lines: Sequence[bytes]) -> None:
        if lost := self._write_out(lines):
            with self._lock:
                self._drop(Loss(time.time_ns(), write_failed=lost, error=self._error))

    def _drop(self, loss: Loss) -> None:
        self.dropped += loss.queue_full + loss.write_failed
        self._unreported = loss if self._unreported is None else self._unreported + loss

    def _write_out(self, lines: Sequence[bytes]) -> int:
        """Write *lines*, after the rest of the last one; return how many were not begun."""
        whole = self._cut + b"".join(lines)
        rest = memoryview(whole)
        try:
            with self._turn:
                while rest and not self._is_given_up:
                    rest = rest[self._write(rest) :]
        except Exception as exc:  # noqa: BLE001 - the log's own thread must not die, and cannot log its failure
            self._error = f"{type(exc).__name__}: {exc}"
        self._is_failing = bool(rest)
        if not rest:
            self._cut = b""
            return 0
        written = len(whole) - len(rest)
        is_cut = whole[written - 1 : written] != b"\n" if written else bool(self._cut)
        # The rest of a begun line is written next, so that no other line is appended to its beginning.
        end = whole.find(b"\n", written) + 1 if is_cut else written
        self._cut = whole[written:end]
        return whole.count(b"\n", end)


def make_lock() -> int:
    """Return the descriptor of a new file without a name, for :class:`Turn`."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("nexus-log")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


class Turn:
    """Lets one of several processes write at a time, so that a long line in a pipe is not cut by another."""

    def __init__(self) -> None:
        self.lock: int | None = None
        """The descriptor of a file that all of them have inherited; None: this process writes alone. Unlike flock(2), a
        lock of lockf(3) belongs to a process, and the kernel releases it when that ends."""

    def __enter__(self) -> None:
        if self.lock is not None:
            fcntl.lockf(self.lock, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        if self.lock is not None:
            fcntl.lockf(self.lock, fcntl.LOCK_UN)


def writer_to(stream: TextIO) -> Callable[[memoryview], int]:
    """Return a function that writes bytes to *stream*, bypassing the buffer of a real file, and returns how many."""
    try:
        fd = stream.fileno()
    except (OSError, ValueError, AttributeError):
        return lambda lines: _write_text(stream, lines)
    writable = select.poll()
    writable.register(fd, select.POLLOUT)

    def write(lines: memoryview) -> int:
        try:
            return os.write(fd, lines)
        except BlockingIOError:
            # Another program has made the shared terminal non-blocking.
            writable.poll(1000)
            return 0

    return write


def _write_text(stream: TextIO, lines: memoryview) -> int:
    stream.write(bytes(lines).decode())
    stream.flush()
    return len(lines)
