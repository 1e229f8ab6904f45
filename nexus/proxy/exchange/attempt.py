"""One attempt at one backend: its slot, its connection, its answer, and what it came to."""

from collections.abc import Callable
from time import monotonic
from typing import Final

import msgspec

from nexus.domain.backend import Backend
from nexus.domain.model_load import ModelLoad, Pace
from nexus.domain.outcome import AttemptOutcome, Ending
from nexus.domain.request import TokenUsage
from nexus.domain.residency import Load, end_load
from nexus.domain.silence import silent_since
from nexus.domain.statuses import FIRST_ERROR
from nexus.proxy.exchange.response import Response
from nexus.proxy.exchange.translating import Translation
from nexus.proxy.headers.to_client import retry_after_s
from nexus.proxy.upstream.backends import Upstream
from nexus.proxy.upstream.connection import UpstreamConnection
from nexus.routing.decision import Reserved

PROMPT_TOKENS_PER_S: Final = 200.0
"""How fast a prompt is surely read, by a machine at home too: only after that time does a request count as waiting."""

MIN_TOLD_LOAD_S: Final = 0.5
"""Ollama reports some milliseconds also where the model was in memory."""

_BUSY_STATUSES: Final = frozenset({429, 503})
_FINISHED: Final = Ending.FINISHED
"""Kept here: up to Python 3.11, each look at a member through its class takes as long as a call."""


class Attempt(msgspec.Struct, eq=False):
    """Holds what one backend has lent to a request; :meth:`settle` gives all of it back, exactly once."""

    reserved: Reserved
    upstream: Upstream
    started_at: float
    asks_model: bool = True
    """Whether a model is asked, rather than the backend for what it keeps."""
    prompt_tokens: int = 0
    """About how long the prompt is."""
    max_tokens: int | None = None
    """The longest answer that the request accepts; None when it did not say."""
    wants_stream: bool = False
    backend: Backend = msgspec.UNSET  # type: ignore[assignment]
    """That of *reserved*."""
    translation: Translation | None = None
    """None: the backend speaks the protocol of the client."""
    translated: bytes = b""
    """A whole answer in the dialect of the client."""
    listener: Callable[[str], None] | None = None
    """Called with the text of the answer."""
    lent: UpstreamConnection | None = None
    """The connection that carries it, until it is given back."""
    is_renamed: bool = False
    """Whether the backend was asked for another model than the client named, and not only by another spelling."""
    asked_at: float = 0.0
    """When the request was sent; as all instants, of the monotonic clock."""
    waits_since: float = 0.0
    """When the backend had surely read the prompt: from then on, the request waits."""
    asked: Response | None = None
    """The backend's response; None before the request was sent."""
    usage: TokenUsage | None = None
    ending: Ending = Ending.NEXUS_FAILED
    """What remains if no other ending is noted is an attempt that a defect of Nexus ended."""
    fault: str | None = None
    cost_usd: float | None = None
    """What it has cost, once it is settled, as far as a stage knows."""
    figures: ModelLoad | None = None
    """Those of the model at this backend, once it was asked."""
    waits_in: Pace | None = None
    """The figures that show it as waiting, until any part of the answer arrives."""
    load: Load | None = None
    """The load of the model into memory that it waits for, or has waited for; None: none, as far as is known."""
    told_load_s: float | None = None
    """How long the backend says that it loaded the model for this request; None if it does not say, or had not to."""
    on_loaded: Callable[[], None] | None = None
    """Called when that load is over because content has arrived."""
    flowing: ModelLoad | None = None
    """The figures that count it as a stream that has begun, until it is settled."""
    outcome: AttemptOutcome | None = None
    """None until it is settled."""

    def __post_init__(self) -> None:
        self.backend = self.reserved.backend
        for hold in self.reserved.holds:
            self.listener = self.listener or hold.listener()

    @property
    def response(self) -> Response:
        """The backend's response, once the request was sent."""
        if self.asked is None:
            raise LookupError("this attempt has sent no request")
        return self.asked

    @property
    def connection(self) -> UpstreamConnection:
        """The connection that carries it, until it is given back."""
        if self.lent is None:
            raise LookupError("this attempt has no connection")
        return self.lent

    def begin(self, connection: UpstreamConnection, response: Response) -> None:
        """Note on which connection the request is sent, and what will be its response."""
        if self.asked is not None:
            self.asked.forget()
        self.lent = connection
        self.asked_at = monotonic()
        self.waits_since = self.asked_at + self.prompt_tokens / PROMPT_TOKENS_PER_S
        self.asked = response
        if self.asks_model:
            if self.waits_in is not None:
                self.end_waiting()
            model, load = self.reserved.model, self.backend.load
            self.figures = figures = load.models.get(model) or load.model(model)
            self.waits_in = figures.first_token if self.wants_stream else figures.whole
            self.waits_in.waiting[self] = self.waits_since
            if self.backend.kind.loads_models:
                self.load = self.backend.load.memory.under_way.get(self.reserved.model)

    def silent_s(self, now: float) -> float:
        """Return for how long the backend has given no sign of life since it was asked."""
        figures = self.figures
        return 0.0 if figures is None else silent_since(self.backend, figures, self.waits_since, now)

    def end_waiting(self) -> None:
        """Note that it does not wait for the first part of the answer any more."""
        if self.waits_in is not None:
            self.waits_in.waiting.pop(self, None)
            self.waits_in = None

    def begin_answer(self, now: float) -> None:
        """Note that there is content: the backend is at work, and what waits there for its turn is not lost."""
        self.end_waiting()
        if self.load is not None and self.load.took_s is None:
            self._end_load(self.load, now)
        if self.figures is not None:
            self.figures.alive_at = now

    def _end_load(self, load: Load, now: float) -> None:
        """Note that the model is in memory now, unless what has arrived is an error."""
        if self.asked is not None and self.asked.status < FIRST_ERROR:
            end_load(self.backend, load, now)
            if self.on_loaded is not None:
                self.on_loaded()

    def note_load(self, load_s: float | None) -> None:
        """Note how long the backend says that it loaded the model for this request."""
        if load_s is None or load_s < MIN_TOLD_LOAD_S or self.figures is None:
            return
        self.told_load_s = load_s
        if self.load is None or not self.load.is_certain:
            # Otherwise the load was measured when the first content arrived.
            self.figures.observe_load(load_s, monotonic())

    def loading_s(self, now: float) -> float | None:
        """Return how long its model was loaded, or has been loading; None: it did not have to, as far as is known."""
        if self.load is None or not self.load.is_certain:
            return self.told_load_s
        return now - self.load.since if self.load.took_s is None else self.load.took_s

    def begin_flowing(self, now: float) -> None:
        """Note that a stream has begun."""
        self.begin_answer(now)
        usage = None if self.asked is None else self.asked.scan.usage()
        for hold in self.reserved.holds:
            hold.begin_answer(usage)
        self.flowing = figures = self.backend.load.model(self.reserved.model)
        figures.flowing += 1
        figures.progressed_at = now

    def let_go(self, *, may_reuse: bool) -> None:
        """Give the connection back to the pool, or close it."""
        connection, self.lent = self.lent, None
        response = self.asked
        if connection is None or response is None:
            return
        response.dismiss()
        if may_reuse:
            closes = response.is_streamed and self.backend.kind.closes_after_stream
            self.upstream.pool.give_back(connection, may_reuse=not closes)
        else:
            connection.abandon()

    @property
    def retry_after_s(self) -> float | None:
        """For how long the backend asks to be left alone, in seconds; None when it does not."""
        if self.asked is None or self.asked.status not in _BUSY_STATUSES:
            return None
        return next(
            (retry_after_s(value) for name, value in self.asked.headers if name.lower() == b"retry-after"), None
        )

    def settle(self, now: float) -> AttemptOutcome:
        """Give back every hold. A second call changes nothing."""
        if self.outcome is not None:
            return self.outcome
        if self.waits_in is not None:
            self.end_waiting()
        if self.flowing is not None:
            self.flowing.flowing -= 1
        response, backend = self.asked, self.backend
        begun_at = response.begun_at if response is not None else None
        ended_at = response.last_content_at if response is not None else None
        is_stream = response is not None and response.mode == "events"
        is_sent = response is not None
        # Positional: CPython makes a dict of more than 15 keywords first, which takes 15 times as long.
        self.outcome = outcome = AttemptOutcome(
            backend.name,
            backend.id,
            self.reserved.model if self.asks_model else "",
            self.ending,
            self.fault,
            is_sent,
            (response.status or None) if response is not None else None,
            now - self.started_at,
            is_stream,
            None if begun_at is None else begun_at - self.started_at,
            None if ended_at is None or not is_stream else ended_at - self.started_at,
            response.scan.data_blocks if response is not None and is_stream else 0,
            self.usage,
            is_sent and self.wants_stream,
            self.max_tokens,
            self.prompt_tokens,
            0.0 if self.ending is _FINISHED else self.silent_s(now),
            self.loading_s(now),
        )
        for hold in self.reserved.holds:
            hold.settle(outcome)
            if (cost_usd := hold.cost_usd()) is not None:
                self.cost_usd = cost_usd + (self.cost_usd or 0.0)
        return outcome
