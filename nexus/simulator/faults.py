"""The faults that a simulator can play, and the switch that sets them."""

import re
from collections.abc import Callable
from typing import Literal

import msgspec

Scope = Literal["inference", "probes", "all"]
"""Which requests a fault applies to: those to a model, all others, or all."""
Ending = Literal["reset", "close", "terminate"]
"""RST, FIN in the middle of the body, or a correctly framed end of the truncated body."""


def _kind_of(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag=_kind_of):
    """The base of all faults."""

    times: int | None = None
    """How many requests it applies to; None: all, until it is cleared."""
    on: Scope = "inference"
    model: str | None = None
    """Apply only to requests for this model; None: to any."""

    @property
    def kind(self) -> str:
        return _kind_of(type(self).__name__)


class Refuse(Fault, frozen=True):
    """Refuse connections: close the listening socket and idle connections."""

    for_s: float | None = None
    """Listen again after this time; None: when the fault is cleared."""
    kills_active: bool = False
    """Also reset connections with a request in flight, as a killed server does."""


class HangUp(Fault, frozen=True):
    """Close the connection without sending anything, once it is accepted or once the request is read."""

    at: Literal["accept", "request"] = "request"


class Reset(Fault, frozen=True):
    """Reset the connection in place of an answer."""


class Stall(Fault, frozen=True):
    """Stop sending, and keep the connection open."""

    phase: Literal["before_headers", "status_line", "after_headers", "mid_stream"] = "before_headers"
    after_events: int = 1
    """With phase ``mid_stream``, how many events precede the stall; a body without events stops halfway."""


class Drip(Fault, frozen=True):
    """Send one byte at a time."""

    interval_s: float = 0.01


class CommentsOnly(Fault, frozen=True):
    """Send comments in place of events, without end."""

    interval_s: float = 0.05


class Cut(Fault, frozen=True):
    """Truncate an answer."""

    after_events: int = 1
    mid_event: bool = True
    """Also send half of the next event."""
    ending: Ending = "close"


class Unfinished(Fault, frozen=True):
    """End a stream correctly framed, but without the terminal marker of its protocol."""

    has_finish_reason: bool = False


class WrongLength(Fault, frozen=True):
    """Send a ``Content-Length`` that is too large or, if negative, too small; streams get one too."""

    by_bytes: int = 10


class Status(Fault, frozen=True):
    """Answer with an HTTP error."""

    status: int = 503
    retry_after: str | None = None
    """Sent unchanged: seconds, a date, or an invalid value."""
    body: str | None = None
    """None: the usual error body of the kind."""
    headers: dict[str, str] = {}


class Decline(Fault, frozen=True):
    """Refuse the request with the error of the kind."""

    reason: Literal["overloaded", "rate_limited", "too_long", "unauthorized"] = "overloaded"


class Garbage(Fault, frozen=True):
    """Send bytes that are not HTTP, and close."""

    size: int = 256


class InformationalFlood(Fault, frozen=True):
    """Send ``102 Processing`` without end."""

    interval_s: float = 0.01


class ErrorEvent(Fault, frozen=True):
    """Send the error that the kind sends in a stream when its engine fails."""

    after_events: int = 0


class HugeEvent(Fault, frozen=True):
    """Pad events with spaces; they stay valid."""

    size: int = 2 * 1024 * 1024
    after_events: int = 1
    count: int = 1
    """How many consecutive events."""


class Mislabel(Fault, frozen=True):
    """Send a valid answer with a wrong content type."""

    content_type: str = "application/json"
    """Empty: no content type."""


class IgnoreStream(Fault, frozen=True):
    """Stream every answer, or none, regardless of the request."""

    streams: bool = True


class Heartbeats(Fault, frozen=True):
    """Send comments before the answer; an answer that is not streamed is only delayed."""

    for_s: float = 1.0
    interval_s: float = 0.1


class ErrorInSuccess(Fault, frozen=True):
    """Answer 200 with an error in the body."""

    shape: Literal["object", "printed", "text", "flat", "anthropic", "detail"] = "object"


class HtmlPage(Fault, frozen=True):
    """Answer 200 with an HTML error page."""


class Verbatim(Fault, frozen=True):
    """Answer 200 with exactly these bytes."""

    body: str
    content_type: str = "text/event-stream"


class Redirect(Fault, frozen=True):
    """Answer 302."""

    location: str = "http://127.0.0.1:1/elsewhere"


class BadHeaders(Fault, frozen=True):
    """Send invalid or excessive headers."""

    flaw: Literal["control_characters", "too_many", "too_long"] = "control_characters"


AnyFault = (
    Refuse
    | HangUp
    | Reset
    | Stall
    | Drip
    | CommentsOnly
    | Cut
    | Unfinished
    | WrongLength
    | Status
    | Decline
    | Garbage
    | InformationalFlood
    | ErrorEvent
    | HugeEvent
    | Mislabel
    | IgnoreStream
    | Heartbeats
    | ErrorInSuccess
    | HtmlPage
    | Verbatim
    | Redirect
    | BadHeaders
)


class _Named(msgspec.Struct):
    model: str | None = None


def _model_in(body: bytes) -> str | None:
    """Return the model in *body*; None if it is not JSON or names no model."""
    try:
        return msgspec.json.decode(body, type=_Named).model
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


class FaultSwitch:
    """Holds the faults that are set, and plays them in order, each as often as its ``times``."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self._pending: list[Fault] = []
        self._changed = changed

    @property
    def current(self) -> tuple[Fault, ...]:
        return tuple(self._pending)

    @property
    def refusal(self) -> Refuse | None:
        """Return the fault that refuses connections now, if any."""
        first = self._pending[0] if self._pending else None
        return first if isinstance(first, Refuse) else None

    def set(self, *faults: Fault) -> None:
        """Replace all faults."""
        self._pending = [fault for fault in faults if fault.times is None or fault.times > 0]
        self._changed()

    def clear(self) -> None:
        self.set()

    def end_refusal(self) -> None:
        """Drop the refusal, and continue with the next fault."""
        self.set(*self._pending[1:])

    def take_at_accept(self) -> Fault | None:
        """Return and count the fault to play on a new connection."""
        fault = next(iter(self._pending), None)
        return self._use(0) if isinstance(fault, HangUp) and fault.at == "accept" else None

    def take(self, *, is_inference: bool, body: bytes = b"") -> Fault | None:
        """Return and count the fault to play on a request."""
        mine = {"all", "inference" if is_inference else "probes"}
        for position, fault in enumerate(self._pending):
            is_for_it = fault.model is None or fault.model == _model_in(body)
            if fault.on in mine and is_for_it and not isinstance(fault, Refuse):
                return self._use(position)
        return None

    def _use(self, position: int) -> Fault:
        fault = self._pending[position]
        if fault.times is not None:
            if fault.times == 1:
                del self._pending[position]
            else:
                self._pending[position] = msgspec.structs.replace(fault, times=fault.times - 1)
        return fault
