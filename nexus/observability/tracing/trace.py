"""The trace context of one exchange; spans are made later, in a thread, so OpenTelemetry is not needed here."""

import re
from collections.abc import Callable, Iterable, Sequence
from random import getrandbits
from time import monotonic
from typing import Final

import msgspec

from nexus.domain.backend import Backend
from nexus.domain.outcome import ExchangeOutcome, Phase

HEADERS: Final = frozenset({b"traceparent", b"tracestate"})
"""The headers of W3C Trace Context, in lower case."""

_PARENT: Final = re.compile(rb"(?!ff)([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL)
_SAMPLED: Final = 1
_TRACE_BITS: Final = 128
_SPAN_BITS: Final = 64
MAX_STATE: Final = 512


class AttemptSpan(msgspec.Struct, frozen=True):
    """The beginning of an attempt's span."""

    span_id: str
    backend: Backend
    started_at: float
    """In seconds of the monotonic clock, as all instants here."""


class Visit(msgspec.Struct, frozen=True):
    """One visit to a phase."""

    phase: Phase
    began_at: float
    ended_at: float


class Ended(msgspec.Struct, frozen=True):
    """Everything that the spans of one exchange are made of."""

    trace: "Trace"
    outcome: ExchangeOutcome
    phases: Sequence[tuple[Phase, float]]
    """Each visit to a phase and its beginning, except that of settling."""
    settling_since: float
    ended_at: float

    @property
    def visits(self) -> tuple[Visit, ...]:
        """All visits, with their ends."""
        began = (*self.phases, ("settle", self.settling_since))
        ends = (*(at for _, at in began[1:]), self.ended_at)
        return tuple(Visit(phase, at, until) for (phase, at), until in zip(began, ends, strict=True))


class TraceCounts:
    """The number of sampled exchanges by what happened to their spans."""

    __slots__ = ("dropped", "exported", "failed")

    def __init__(self) -> None:
        self.exported = 0
        self.failed = 0
        """The collector did not accept them."""
        self.dropped = 0
        """The queue was full."""


class Tracer:
    """Begins traces, and hands over ended ones that are sampled."""

    def __init__(self, hand_over: Callable[[Ended], None], *, sample_ratio: float) -> None:
        """:param sample_ratio: the share of new traces that are sampled."""
        self.hand_over = hand_over
        # The rule of other tracers, so that all of them make the same decision about a trace.
        self._bound = round(sample_ratio * 2**_SPAN_BITS)

    def begin(self, headers: Iterable[tuple[bytes, bytes]]) -> "Trace":
        """Return the trace of a request, which continues the client's trace if *headers* have one.

        :param headers: lower-case names and whole lines.
        """
        found: dict[bytes, list[bytes]] = {}
        for name, line in headers:
            if name in HEADERS:
                found.setdefault(name, []).append(line.partition(b":")[2].strip())
        return self._continued(found) or self._new()

    def _continued(self, found: dict[bytes, list[bytes]]) -> "Trace | None":
        parents = found.get(b"traceparent", ())
        parent = _PARENT.fullmatch(parents[0]) if len(parents) == 1 else None
        if parent is None or (parent[1] == b"00" and parent[5] is not None):
            return None
        trace_id, parent_id = parent[2].decode(), parent[3].decode()
        if not int(trace_id, 16) or not int(parent_id, 16):
            return None
        return Trace(
            self,
            trace_id=trace_id,
            parent_id=parent_id,
            state=b",".join(found.get(b"tracestate", ()))[:MAX_STATE],
            is_sampled=bool(int(parent[4], 16) & _SAMPLED),
        )

    def _new(self) -> "Trace":
        number = getrandbits(_TRACE_BITS) or 1
        is_sampled = (number & (2**_SPAN_BITS - 1)) < self._bound
        return Trace(self, trace_id=f"{number:032x}", parent_id=None, state=b"", is_sampled=is_sampled)


class Trace:
    """The trace context of one exchange."""

    __slots__ = ("_tracer", "attempts", "is_sampled", "parent_id", "span_id", "state", "trace_id")

    def __init__(self, tracer: Tracer, *, trace_id: str, parent_id: str | None, state: bytes, is_sampled: bool) -> None:
        self._tracer = tracer
        self.trace_id = trace_id
        self.parent_id = parent_id
        """None when the trace begins here."""
        self.span_id = new_span_id()
        """Of the exchange."""
        self.state = state
        """The value of ``tracestate``."""
        self.is_sampled = is_sampled
        self.attempts: list[AttemptSpan] = []

    def attempt(self, backend: Backend, started_at: float) -> None:
        """Begin the span of an attempt at *backend*."""
        self.attempts.append(AttemptSpan(new_span_id(), backend, started_at))

    def lines(self) -> bytes:
        """Return the header lines for the last attempt, whose span becomes the parent of the backend's spans."""
        flags = b"01" if self.is_sampled else b"00"
        parent = b"-".join((b"00", self.trace_id.encode(), self.attempts[-1].span_id.encode(), flags))
        state = b"tracestate: %b\r\n" % self.state if self.state else b""
        return b"traceparent: %b\r\n%b" % (parent, state)

    def end(self, outcome: ExchangeOutcome, phases: Sequence[tuple[Phase, float]], settling_since: float) -> None:
        """Hand over the ended exchange, if it is sampled.

        :param phases: see :attr:`Ended.phases`.
        """
        if self.is_sampled:
            self._tracer.hand_over(Ended(self, outcome, phases, settling_since, monotonic()))


def new_span_id() -> str:
    return f"{getrandbits(_SPAN_BITS) or 1:016x}"
