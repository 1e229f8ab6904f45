"""One attempt at one backend: its slot, its connection, its answer, and what it came to."""

from collections.abc import Callable, Mapping
from math import ceil
from time import monotonic
from typing import Final

import msgspec

from nexus.domain.backend import Backend
from nexus.domain.model_load import ModelLoad, Pace
from nexus.domain.outcome import AttemptOutcome, Ending
from nexus.domain.request import TokenUsage
from nexus.domain.silence import silent_since
from nexus.domain.statuses import StatusMeaning, meaning_of
from nexus.errors import RequestError, UpstreamError
from nexus.proxy.exchange.expected_response import Mode
from nexus.proxy.exchange.response import Response
from nexus.proxy.exchange.retry import FAULT_CODES
from nexus.proxy.upstream.backends import Upstream
from nexus.proxy.upstream.connection import UpstreamConnection
from nexus.routing.decision import Reserved

PROMPT_TOKENS_PER_S: Final = 200.0
"""How fast a prompt is surely read, by a machine at home too: only after that time does a request count as one that
waits."""


class Attempt(msgspec.Struct, eq=False):
    """Holds what one backend was lent; gives all of it back in :meth:`settle`, exactly once."""

    reserved: Reserved
    upstream: Upstream
    started_at: float
    asks_model: bool = True
    """Whether a model is asked, rather than the backend for what it keeps."""
    prompt_tokens: int = 0
    """About how long the prompt is."""
    max_tokens: int | None = None
    """The longest answer that the request accepts; None when it did not say."""
    listener: Callable[[str], None] | None = None
    """What is to be told the text of the answer."""
    lent: UpstreamConnection | None = None
    """The connection that carries it, until it is let go."""
    asked_at: float = 0.0
    """When the request was sent; as all instants, of the monotonic clock."""
    asked: Response | None = None
    """What the backend answers; None before it was asked."""
    usage: TokenUsage | None = None
    ending: Ending = Ending.NEXUS_FAILED
    """Overwritten by whoever knows; what remains otherwise is an attempt that a defect of ours ended."""
    fault: str | None = None
    cost_usd: float | None = None
    """What it has cost, once it is settled, as far as a stage knows."""
    figures: ModelLoad | None = None
    """Those of the model at this backend, once it was asked."""
    waits_in: Pace | None = None
    """Those figures that show it as waiting, until there is anything of an answer."""
    flowing: ModelLoad | None = None
    """The figures that count it as a stream that has begun, until it is settled."""
    outcome: AttemptOutcome | None = None
    """None until it is settled."""

    def __post_init__(self) -> None:
        for hold in self.reserved.holds:
            self.listener = self.listener or hold.listener()

    @property
    def backend(self) -> Backend:
        return self.reserved.backend

    @property
    def response(self) -> Response:
        """What the backend answers, once it was asked."""
        if self.asked is None:
            raise LookupError("this attempt has asked no backend")
        return self.asked

    @property
    def connection(self) -> UpstreamConnection:
        """The connection that carries it, until it is let go."""
        if self.lent is None:
            raise LookupError("this attempt has no connection")
        return self.lent

    def begin(self, connection: UpstreamConnection, response: Response) -> None:
        """Note where the request goes, and what will come back."""
        self.forget()
        self.lent = connection
        self.asked_at = monotonic()
        self.asked = response
        if self.asks_model:
            self._begin_waiting(response.wants_stream)

    def _begin_waiting(self, is_stream: bool) -> None:
        self.end_waiting()
        self.figures = self.reserved.backend.load.model(self.reserved.model)
        self.waits_in = self.figures.pace(is_stream=is_stream)
        self.waits_in.waiting[self] = self.waits_since

    @property
    def waits_since(self) -> float:
        """When it began to wait for more than that its prompt is read."""
        return self.asked_at + self.prompt_tokens / PROMPT_TOKENS_PER_S

    def silent_s(self, now: float) -> float:
        """Return for how long the backend has given no sign of life since it was asked."""
        figures = self.figures
        return 0.0 if figures is None else silent_since(self.reserved.backend, figures, self.waits_since, now)

    def end_waiting(self) -> None:
        """Note that it does not wait for the first of its answer any more."""
        if self.waits_in is not None:
            self.waits_in.waiting.pop(self, None)
            self.waits_in = None

    def begin_answer(self, now: float) -> None:
        """Note that there is content: the backend is at work, and what waits there for its turn is not lost."""
        self.end_waiting()
        if self.figures is not None:
            self.figures.alive_at = now

    def begin_flowing(self, now: float) -> None:
        """Note that a stream has begun."""
        self.begin_answer(now)
        self.flowing = figures = self.reserved.backend.load.model(self.reserved.model)
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
            closes = response.is_streamed and self.reserved.backend.kind.closes_after_stream
            self.upstream.pool.give_back(connection, may_reuse=not closes)
        else:
            connection.abandon()

    def forget(self) -> None:
        """Forget what the backend has answered."""
        if self.asked is not None:
            self.asked.forget()

    def settle(self, now: float) -> AttemptOutcome:
        """Give back every hold. A second call changes nothing."""
        if self.outcome is not None:
            return self.outcome
        self.end_waiting()
        if self.flowing is not None:
            self.flowing.flowing -= 1
        response, backend = self.asked, self.reserved.backend
        begun_at = response.begun_at if response is not None else None
        ended_at = response.last_content_at if response is not None else None
        is_stream = response is not None and response.mode is Mode.EVENTS
        self.outcome = outcome = AttemptOutcome(
            backend=backend.name,
            backend_id=backend.id,
            model=self.reserved.model if self.asks_model else "",
            ending=self.ending,
            fault=self.fault,
            is_sent=response is not None,
            status=(response.status or None) if response is not None else None,
            duration_s=now - self.started_at,
            is_stream=is_stream,
            first_byte_s=None if begun_at is None else begun_at - self.started_at,
            last_content_s=None if ended_at is None or not is_stream else ended_at - self.started_at,
            content_blocks=response.scan.data_blocks if response is not None and is_stream else 0,
            usage=self.usage,
            wants_stream=response is not None and response.wants_stream,
            max_tokens=self.max_tokens,
            silent_s=self.silent_s(now),
        )
        for hold in self.reserved.holds:
            hold.settle(outcome)
            if (cost_usd := hold.cost_usd()) is not None:
                self.cost_usd = cost_usd + (self.cost_usd or 0.0)
        return outcome


_CODE_OF_STATUS: Final[Mapping[int, str]] = {
    429: "upstream_rate_limited",
    503: "backend_unavailable",
    529: "backend_unavailable",
}
"""What a status of a backend is called when its own words cannot be passed on; any other is a bad gateway's."""

_PASSES_SOON: Final = frozenset({"no_healthy_backend", "connect_timeout", *_CODE_OF_STATUS.values()})
PATIENCE_S: Final = 5
"""After how many seconds another try makes sense when the backend does not say."""


def error_of(exc: UpstreamError, *, retry_after_s: float | None = None) -> RequestError:
    """Return what a client is told when nobody else could answer after *exc*.

    :param retry_after_s: for how long the backend asks to be left alone; None when it does not.
    """
    if exc.status is not None and meaning_of(exc.status) is StatusMeaning.CREDENTIALS:
        return RequestError("backend_auth", "the backend refused the proxy's credentials; the operator must mend that")
    code = _CODE_OF_STATUS.get(exc.status or 0, FAULT_CODES[exc.fault])
    wait_s = None
    if code in _PASSES_SOON:
        wait_s = PATIENCE_S if retry_after_s is None else max(1, ceil(retry_after_s))
    return RequestError(code, f"the backend could not answer: {exc}", retry_after_s=wait_s)
