"""The ways in which a simulator can misbehave, and the switch that says how it does now."""

import re
from collections.abc import Callable
from typing import Literal

import msgspec

Scope = Literal["inference", "probes", "all"]
"""Which requests a fault is for: those that ask a model, all others, or each."""
Ending = Literal["reset", "close", "terminate"]
"""RST; FIN with the body unfinished; or a body that is properly ended where it stands."""


def _kind_of(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag=_kind_of):
    """What all faults have in common."""

    times: int | None = None
    """On how many requests it is played; None: until it is cleared."""
    on: Scope = "inference"
    model: str | None = None
    """Only on requests for this model; None: whatever they are for."""

    @property
    def kind(self) -> str:
        return _kind_of(type(self).__name__)


class Refuse(Fault, frozen=True):
    """Close the listening socket and idle connections: new connections are refused."""

    for_s: float | None = None
    """When to listen again; None: when the fault is cleared."""
    kills_active: bool = False
    """Reset the requests under way as well, as a killed server does."""


class HangUp(Fault, frozen=True):
    """Close the connection without a byte: as soon as it is accepted, or when the request has been read."""

    at: Literal["accept", "request"] = "request"


class Reset(Fault, frozen=True):
    """Answer a request with RST."""


class Stall(Fault, frozen=True):
    """Fall silent, and keep the connection."""

    phase: Literal["before_headers", "status_line", "after_headers", "mid_stream"] = "before_headers"
    after_events: int = 1
    """Of a stream, in phase ``mid_stream``; an answer that is no stream stops in its middle."""


class Drip(Fault, frozen=True):
    """Send one byte at a time."""

    interval_s: float = 0.01


class CommentsOnly(Fault, frozen=True):
    """Send comments instead of events, for ever."""

    interval_s: float = 0.05


class Cut(Fault, frozen=True):
    """Break off an answer."""

    after_events: int = 1
    mid_event: bool = True
    """Half of the next event is still sent."""
    ending: Ending = "close"


class Unfinished(Fault, frozen=True):
    """End a stream in good order, but without its protocol's terminal marker."""

    has_finish_reason: bool = False


class WrongLength(Fault, frozen=True):
    """Say a ``Content-Length`` that is too long or, if negative, too short. Streams get one too."""

    by_bytes: int = 10


class Status(Fault, frozen=True):
    """Answer with an HTTP error."""

    status: int = 503
    retry_after: str | None = None
    """Sent as it is: seconds, a date, or junk."""
    body: str | None = None
    """None: an error in the shape that the kind has."""
    headers: dict[str, str] = {}


class Decline(Fault, frozen=True):
    """Refuse in the kind's own words."""

    reason: Literal["overloaded", "rate_limited", "too_long", "unauthorized"] = "overloaded"


class Garbage(Fault, frozen=True):
    """Send bytes that are no HTTP, and close."""

    size: int = 256


class InformationalFlood(Fault, frozen=True):
    """Send ``102 Processing`` for ever."""

    interval_s: float = 0.01


class ErrorEvent(Fault, frozen=True):
    """Break the engine: an error in the stream, in the kind's own way."""

    after_events: int = 0


class HugeEvent(Fault, frozen=True):
    """Blow events up with blanks; they stay valid."""

    size: int = 2 * 1024 * 1024
    after_events: int = 1
    count: int = 1
    """How many events in a row."""


class Mislabel(Fault, frozen=True):
    """Answer in good order, under another content type."""

    content_type: str = "application/json"
    """Empty: none at all."""


class IgnoreStream(Fault, frozen=True):
    """Stream every answer, or none, whatever the request says."""

    streams: bool = True


class Heartbeats(Fault, frozen=True):
    """Send comments while the prompt is read, and then the answer. A document is only late."""

    for_s: float = 1.0
    interval_s: float = 0.1


class ErrorInSuccess(Fault, frozen=True):
    """Answer 200 with an error."""

    shape: Literal["object", "printed", "text", "flat", "anthropic", "detail"] = "object"


class HtmlPage(Fault, frozen=True):
    """Answer 200 with a web page that speaks of an error."""


class Redirect(Fault, frozen=True):
    """Answer 302."""

    location: str = "http://127.0.0.1:1/elsewhere"


class BadHeaders(Fault, frozen=True):
    """Answer with a head that no server should send."""

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
    | Redirect
    | BadHeaders
)


class _Named(msgspec.Struct):
    model: str | None = None


def _model_in(body: bytes) -> str | None:
    """Return the model that *body* asks for, None when it is no JSON or names none."""
    try:
        return msgspec.json.decode(body, type=_Named).model
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


class FaultSwitch:
    """Says which fault is played next. Several that are set are played in their order, each for its times."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self._pending: list[Fault] = []
        self._changed = changed

    @property
    def current(self) -> tuple[Fault, ...]:
        return tuple(self._pending)

    @property
    def refusal(self) -> Refuse | None:
        """Return what keeps the listening socket closed now; None: nothing does."""
        first = self._pending[0] if self._pending else None
        return first if isinstance(first, Refuse) else None

    def set(self, *faults: Fault) -> None:
        """Replace whatever was set."""
        self._pending = [fault for fault in faults if fault.times is None or fault.times > 0]
        self._changed()

    def clear(self) -> None:
        self.set()

    def end_refusal(self) -> None:
        """Go on with what was set after the refusal, or without a fault."""
        self.set(*self._pending[1:])

    def take_at_accept(self) -> Fault | None:
        """Return the fault to play on a connection that was just accepted."""
        fault = next(iter(self._pending), None)
        return self._use(0) if isinstance(fault, HangUp) and fault.at == "accept" else None

    def take(self, *, is_inference: bool, body: bytes = b"") -> Fault | None:
        """Return the fault to play on a request with that *body*, and count it."""
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
