"""Makes and exports spans in a thread, so that a slow collector does not delay requests."""

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
"""The length of the queue, in exchanges; one more is dropped and counted."""
BATCH: Final = 16
"""Exchanges per export. Few, because encoding holds the interpreter, while sending releases it."""
GATHER_S: Final = 1.0
"""How long exchanges are collected for one export."""


class SpanWriter:
    """A bounded queue of ended exchanges and the thread that empties it."""

    def __init__(self, exporter: SpanExporter, spans_of: Callable[[Ended], Sequence[ReadableSpan]]) -> None:
        self.counts = TraceCounts()
        self._exporter = exporter
        self._spans_of = spans_of
        self._waiting: deque[Ended] = deque()
        self._stopping = threading.Event()
        self._exporter_errors = _ExporterErrors()
        self._repeats = Repeats()
        self._thread = threading.Thread(target=self._run, name="span-writer", daemon=True)
        self._thread.start()

    def put(self, ended: Ended) -> None:
        """Queue *ended*, or drop it when the queue is full; never blocks."""
        if len(self._waiting) >= MAX_WAITING:
            self.counts.dropped += 1
        else:
            self._waiting.append(ended)

    def stop(self, timeout_s: float) -> None:
        """Export the queue within *timeout_s*, because the collector may be down."""
        self._stopping.set()
        self._thread.join(timeout_s)
        # Ends the pause before a retry of the exporter, which then gives up.
        self._exporter.shutdown()
        self._exporter_errors.detach()

    def _run(self) -> None:
        # The flag is read before the queue, so that what was queued before the stop is still exported.
        while not (is_last := self._stopping.wait(GATHER_S)) or self._waiting:
            while self._waiting:
                self._export([self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))])
            if is_last:
                return

    def _export(self, batch: Sequence[Ended]) -> None:
        self._exporter_errors.first = ""
        try:
            result = self._exporter.export([span for ended in batch for span in self._spans_of(ended)])
        except Exception as exc:  # noqa: BLE001 - the thread must not die, and logs the failure
            self._failed(batch, {"exc_info": exc})
            return
        if result is SpanExportResult.SUCCESS:
            self.counts.exported += len(batch)
        else:
            self._failed(batch, {"reason": self._exporter_errors.first})

    def _failed(self, batch: Sequence[Ended], why: Mapping[str, Any]) -> None:
        self.counts.failed += len(batch)
        unsaid = self._repeats.unsaid("spans_not_exported", time.monotonic())
        if unsaid is not None:
            log.warning("spans_not_exported", exchanges=len(batch), unsaid_before=unsaid, **why)


class _ExporterErrors(logging.Handler):
    """Keeps the first log message of the exporter about a failure, which names the cause; the others repeat it."""

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
        """Let the exporter's messages reach other handlers again."""
        logger = logging.getLogger(self._SOURCE)
        logger.removeHandler(self)
        logger.propagate = True
