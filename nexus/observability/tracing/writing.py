"""A thread that makes the spans of ended exchanges and exports them: a collector that is dead slows no request."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import structlog
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from nexus.observability.logging.repeats import Repeats
from nexus.observability.tracing.trace import Ended, TraceCounts

log = structlog.get_logger("nexus.observability")

MAX_WAITING: Final = 2048
"""Exchanges whose spans are not exported yet; one more is dropped and counted."""
BATCH: Final = 16
"""Exchanges per export. Few, because encoding holds the interpreter and sending lets the event loop have it."""
GATHER_S: Final = 1.0
"""How long exchanges are gathered for one export."""


class SpanWriter:
    """A bounded queue of ended exchanges and the thread that empties it."""

    def __init__(self, exporter: SpanExporter, spans_of: Callable[[Ended], Sequence[ReadableSpan]]) -> None:
        self.counts = TraceCounts()
        self._exporter = exporter
        self._spans_of = spans_of
        self._waiting: deque[Ended] = deque()
        self._stopping = threading.Event()
        self._complaints = _Complaints()
        self._repeats = Repeats()
        self._thread = threading.Thread(target=self._run, name="span-writer", daemon=True)
        self._thread.start()

    def put(self, ended: Ended) -> None:
        """Leave *ended* to the thread, or drop it when too many wait; never wait."""
        if len(self._waiting) >= MAX_WAITING:
            self.counts.dropped += 1
        else:
            self._waiting.append(ended)

    def stop(self, timeout_s: float) -> None:
        """Export what waits, but not for longer than *timeout_s*: nobody may listen."""
        self._stopping.set()
        self._thread.join(timeout_s)
        # Whoever waits there before he tries again is woken by it, and gives up.
        self._exporter.shutdown()
        self._complaints.detach()

    def _run(self) -> None:
        # Looked at before what waits: what is put before the end belongs to it.
        while not (is_last := self._stopping.wait(GATHER_S)) or self._waiting:
            while self._waiting:
                self._export([self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))])
            if is_last:
                return

    def _export(self, batch: Sequence[Ended]) -> None:
        self._complaints.first = ""
        try:
            result = self._exporter.export([span for ended in batch for span in self._spans_of(ended)])
        except Exception as exc:  # noqa: BLE001 - a background loop that must not die, and says what went wrong
            self._failed(batch, {"exc_info": exc})
            return
        if result is SpanExportResult.SUCCESS:
            self.counts.exported += len(batch)
        else:
            self._failed(batch, {"reason": self._complaints.first})

    def _failed(self, batch: Sequence[Ended], why: Mapping[str, Any]) -> None:
        self.counts.failed += len(batch)
        unsaid = self._repeats.unsaid("spans_not_exported", time.monotonic())
        if unsaid is not None:
            log.warning("spans_not_exported", exchanges=len(batch), unsaid_before=unsaid, **why)


class _Complaints(logging.Handler):
    """Keeps the first that the exporter says of a failure, which is the cause: it goes on to say it again and again."""

    _SOURCE: Final = "opentelemetry.exporter"

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.first = ""
        logger = logging.getLogger(self._SOURCE)
        logger.propagate = False
        logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.first = self.first or record.getMessage()

    def detach(self) -> None:
        """Let the exporter speak to everybody again."""
        logger = logging.getLogger(self._SOURCE)
        logger.removeHandler(self)
        logger.propagate = True
