"""The search for an answer: backends are asked, best first, until one has something that may go to the client."""

from functools import partial
from time import monotonic
from typing import Final

import msgspec
import structlog
from msgspec.structs import replace

from nexus.domain.outcome import AttemptOutcome, Ending, Phase
from nexus.domain.request import Kept, Requirements
from nexus.domain.statuses import FIRST_ERROR, StatusMeaning, meaning_of
from nexus.errors import RequestError, UpstreamError, UpstreamFault
from nexus.proxy.client.incoming import IncomingRequest
from nexus.proxy.exchange import answering
from nexus.proxy.exchange import resources as keeping
from nexus.proxy.exchange.attempt import Attempt, error_of
from nexus.proxy.exchange.context import DataPlane, Settings
from nexus.proxy.exchange.expected_response import ExpectedResponse, Mode
from nexus.proxy.exchange.first_byte import begun
from nexus.proxy.exchange.record import Record
from nexus.proxy.exchange.rerouting import is_open, look_for_other_backend
from nexus.proxy.exchange.response import Response
from nexus.proxy.exchange.response_memory import MemoryShare
from nexus.proxy.exchange.retry import Next, Retries
from nexus.proxy.headers.to_client import request_head
from nexus.proxy.upstream.connection import UpstreamConnection
from nexus.proxy.upstream.response_head import NOT_MODIFIED
from nexus.routing.decision import Reject, Reserved, Saturated
from nexus.routing.decision_record import DecisionRecord
from nexus.routing.intent import Verdict
from nexus.routing.rejections import EXHAUSTED, REST_ON_PROBES, after_attempts, overload, saturation
from nexus.routing.router import Routing
from nexus.wire.errors.context import context_exceeded

log = structlog.get_logger("nexus.proxy")

URGENT: Final = "high"
SERVICE_UNAVAILABLE: Final = 503
NOBODY: Final = "no_healthy_backend"


class Failover(msgspec.Struct, eq=False):
    """One question and the attempts to have it answered; what they hold is given back in :meth:`settle_all`."""

    plane: DataPlane
    settings: Settings
    request: IncomingRequest
    record: Record
    body: bytes
    requirements: Requirements
    deadline: float
    """Of the monotonic clock: when the whole exchange must be over."""
    routing: Routing
    retries: Retries
    attempts: list[Attempt] = []
    last_refusal: tuple[Attempt, UpstreamError, Phase] | None = None
    kept: Kept | None = None
    """Which backend keeps what the request refers to; None: it refers to nothing, or that is not known."""
    awaited: set[str] = set()
    """The names of the backends that it waits for."""
    successor: Reserved | None = None
    """What is reserved to take over from a silent backend, until it is asked."""
    moved: Attempt | None = None
    """The attempt at a silent backend of which it is open whether it counts as a failure."""

    @property
    def decision(self) -> DecisionRecord:
        """All that routing has said so far."""
        return self.routing.record

    async def find_answer(self) -> Attempt:
        """Return the attempt whose answer may go to the client.

        :raises RequestError: there is none.
        """
        while (found := self._take_successor() or await self._route()) is not None:
            waited = await self._wait_for_slot(found) if isinstance(found, Saturated) else found
            if (reserved := self._as_it_is_now(waited)) is None:
                continue
            attempt = self._begin(reserved)
            failure = await self._try(attempt)
            if failure is None:
                return attempt
            if failure is Next.GIVE_UP:
                break
        return self._last_word()

    def first_byte_s(self, attempt: Attempt) -> float:
        """Return how long this backend may take to begin; an answer that is not streamed begins when it is whole."""
        config = self.settings.config
        if not self.requirements.is_stream:
            return config.timeouts.whole_answer_seconds or config.server.request_timeout_seconds
        facts = attempt.backend.facts(attempt.reserved.model)
        if facts is not None and facts.first_byte_s is not None:
            return facts.first_byte_s
        return config.timeouts.first_byte_seconds or attempt.backend.kind.first_byte_s

    def settle_all(self, ending: Ending) -> tuple[AttemptOutcome, ...]:
        """Settle what is not settled yet, as ended by *ending*, and return all that was tried."""
        if (unasked := self._take_successor()) is not None:
            self._give_back(unasked)
        return tuple(attempt.outcome or self.settle(attempt, ending) for attempt in self.attempts)

    def settle(self, attempt: Attempt, ending: Ending) -> AttemptOutcome:
        """Settle *attempt*, which is over, as ended by *ending*."""
        attempt.let_go(may_reuse=False)
        attempt.ending = ending
        return self._settle(attempt)

    def _settle(self, attempt: Attempt) -> AttemptOutcome:
        """Give back what *attempt* holds and tell the fleet what it came to."""
        outcome = attempt.settle(monotonic())
        self.record.cost(attempt.cost_usd)
        if not is_open(self, attempt, outcome):
            self.plane.fleet.report(attempt.backend.id, outcome, retry_after_s=answering.retry_after_of(attempt))
        self.plane.line.slot_freed(attempt.backend.name)
        return outcome

    # route, queue

    async def _route(self) -> Reserved | Saturated | None:
        """Return what routing finds; None when an attempt has failed and no other backend is left."""
        self.record.enter("route")
        routing, fleet = self.routing, self.plane.fleet
        found = routing.next(fleet.snapshot)
        if not isinstance(found, Reject):
            return found
        if self.last_refusal is not None:
            return None
        if found.code in REST_ON_PROBES and await fleet.look(lambda: routing.has_healthy(fleet.snapshot)):
            found = routing.next(fleet.snapshot)
        if isinstance(found, Reject):
            raise answering.rejection(found)
        return found

    def _take_successor(self) -> Reserved | None:
        successor, self.successor = self.successor, None
        return successor

    def _begin(self, reserved: Reserved) -> Attempt:
        """Return an attempt that holds what was reserved."""
        self.record.reserved = reserved
        reserved.backend.load.count_request()
        asks_model = self.request.endpoint.capability != "keep"
        upstream, wanted = self.plane.upstreams.of(reserved.backend), self.requirements
        attempt = Attempt(reserved, upstream, monotonic(), asks_model, wanted.prompt_tokens, wanted.max_tokens)
        self.attempts.append(attempt)
        if self.record.trace is not None:
            self.record.trace.attempt(attempt.backend, attempt.started_at)
        return attempt

    def _as_it_is_now(self, reserved: Reserved) -> Reserved | None:
        """Return *reserved* at the present address of its backend: the keys that are kept by its name are for that one.

        None, and it is given back, when the backend left the fleet after it was reserved, or moved to an address in
        another privacy zone: its keys are gone, or its zone was not checked.
        """
        backend = self.plane.fleet.snapshot.by_id.get(reserved.backend.id)
        if backend is None or backend.zone_of(reserved.model) != reserved.backend.zone_of(reserved.model):
            self._give_back(reserved)
            return None
        return reserved if backend.url == reserved.backend.url else replace(reserved, backend=backend)

    async def _wait_for_slot(self, saturated: Saturated) -> Reserved:
        try:
            return await self._wait_in_line(saturated)
        except RequestError as exc:
            reasons = (*self._failures(), *saturation(saturated))
            answering.give_reasons(exc, reasons, self.plane.fleet.snapshot.backends)
            raise

    async def _wait_in_line(self, saturated: Saturated) -> Reserved:
        if not self.settings.config.queue.enabled:
            raise RequestError("overloaded", overload(saturated), retry_after_s=1)
        self.record.enter_queue()
        self.awaited = {backend.name for backend in saturated.backends}
        log.debug("exchange_queued", request_id=self.record.request_id, backends=self.awaited)
        return await self.plane.line.wait(
            self.awaited,
            self._try_now,
            give_back=self._give_back,
            is_urgent=self.request.head.hints.get("x-nexus-priority", "").strip().lower() == URGENT,
            left_s=self.deadline - monotonic(),
        )

    def _try_now(self) -> Reserved | None:
        found = self.routing.next(self.plane.fleet.snapshot)
        if isinstance(found, Reject):
            raise answering.rejection(self._with_failures(found))
        if isinstance(found, Saturated):
            # The fleet may have changed since it began to wait, and with it whose slots would do.
            self.awaited.clear()
            self.awaited.update(backend.name for backend in found.backends)
            return None
        return found

    def _give_back(self, reserved: Reserved) -> None:
        """Settle what was handed over in the moment in which the client left."""
        unused = Attempt(reserved, self.plane.upstreams.of(reserved.backend), monotonic())
        unused.ending = Ending.CLIENT_LEFT
        self._settle(unused)

    # send, await the first byte

    async def _try(self, attempt: Attempt) -> Next | None:
        """Ask one backend, and once more when its connection was stale; None when its answer may go to the client."""
        pool = attempt.upstream.pool
        is_fresh = False
        while True:
            self.record.enter("send")
            try:
                connection = None if is_fresh else pool.take_idle()
                response = self._send(attempt, connection or await pool.open())
                wait_s, look = self.first_byte_s(attempt), partial(look_for_other_backend, self, attempt, response)
                await begun(attempt, response, self.plane.deadlines, wait_s=wait_s, last_at=self.deadline, look=look)
                self._judge(attempt, response)
            except UpstreamError as exc:
                failure = self._as_context_error(exc, attempt)
                what = self._after(failure, attempt)
                if what is not Next.SAME_BACKEND_FRESH:
                    self._give_up(attempt, failure)
                    return what
                attempt.let_go(may_reuse=False)
                is_fresh = True
            else:
                return None

    def _send(self, attempt: Attempt, connection: UpstreamConnection) -> Response:
        """Send the request, and return what will be its answer."""
        loop = self.plane.loop
        share = MemoryShare(self.plane.answer_room)
        response = Response(loop, loop.create_future(), connection, self._question(attempt), share=share)
        attempt.begin(connection, response)
        body = self._body_for(attempt)
        connection.send(self._head_for(attempt, len(body)), body, response)
        self.record.enter("await_first_byte")
        return response

    def _question(self, attempt: Attempt) -> ExpectedResponse:
        protocol, endpoint = self.request.protocol, self.request.endpoint
        open_scan = partial(answering.open_scan, protocol, endpoint, self.plane.event_room, attempt.listener)
        return ExpectedResponse(protocol, endpoint, self.requirements.is_stream, open_scan, self.request.head.accept)

    def _after(self, exc: UpstreamError, attempt: Attempt) -> Next:
        if self.successor is not None or self._is_elsewhere(exc):
            # Another is reserved already; or it says that it has done nothing, so asking the next repeats nothing.
            return Next.ANOTHER_BACKEND
        now = monotonic()
        return self.retries.after(
            exc, attempt.backend, now_s=now, left_s=self.deadline - now, wait_s=self.first_byte_s(attempt)
        )

    def _is_elsewhere(self, exc: UpstreamError) -> bool:
        """Whether the failure is a backend's word that it does not have what was asked for."""
        return exc.fault is UpstreamFault.STATUS and exc.status in keeping.NOT_HERE and self._is_search

    @property
    def _is_search(self) -> bool:
        """Whether it is for the backends to say which of them has what the request is about."""
        is_about_any = self.request.endpoint.model != "body" or bool(self.requirements.references)
        return is_about_any and self.kept is None

    def _body_for(self, attempt: Attempt) -> bytes:
        endpoint = self.request.endpoint
        if not self.requirements.model and self.body and answering.lacks_name(endpoint, attempt):
            return answering.named(endpoint, self.request.head, self.body, attempt.reserved.model)
        if not answering.is_renamed(attempt, self.requirements.model):
            return self.body
        return answering.renamed(self.request.endpoint, self.request.head, self.body, attempt.reserved.model)

    def _head_for(self, attempt: Attempt, body_length: int) -> bytes:
        number = len(self.attempts)
        request_id, trace = self.record.shown_id, self.record.trace
        return request_head(
            attempt.upstream.stamp,
            self.request.head,
            self.request.target,
            method=self.request.method,
            body_length=body_length,
            # Engines take it as their own id: two attempts with one id would be one request to them.
            request_id=request_id if number == 1 else f"{request_id}-{number}",
            may_pass_credentials=self._may_pass_credentials(attempt),
            trace_lines=None if trace is None else trace.lines(),
        )

    def _may_pass_credentials(self, attempt: Attempt) -> bool:
        """Whether the client's own key may go to this backend: not where we ask for one, nor to a second backend.

        A key of ours is never among them; see :class:`~nexus.proxy.client.own_keys.OwnKeys`.
        """
        return attempt is self.attempts[0] and not self.settings.config.server.api_keys

    def _judge(self, attempt: Attempt, response: Response) -> None:
        if response.mode is not Mode.WHOLE:
            return
        if response.status == NOT_MODIFIED and self.request.method != b"GET":
            raise UpstreamError(UpstreamFault.PROTOCOL, "answered with status 304", status=NOT_MODIFIED)
        if response.status >= FIRST_ERROR:
            self._judge_status(attempt, response)
        answering.refuse_unfinished(self.request.protocol, self.request.endpoint, response)

    def _judge_status(self, attempt: Attempt, response: Response) -> None:
        """Raise UpstreamError when another backend may answer what this one refused or failed at."""
        status = response.status
        meaning = meaning_of(status)
        if meaning is StatusMeaning.NOT_SUPPORTED:
            endpoint = self.request.endpoint.name
            self.plane.fleet.report_unsupported(attempt.backend.id, endpoint, attempt.reserved.model)
        if meaning.fails_over:
            is_ours = meaning is StatusMeaning.CREDENTIALS and not self._takes_clients_key(attempt)
            fault = UpstreamFault.CREDENTIALS if is_ours else UpstreamFault.STATUS
            # A server that says when to come back has not begun: RFC 9110, section 15.6.4.
            is_refusal = status == SERVICE_UNAVAILABLE and response.head.has(b"retry-after")
            raise UpstreamError(fault, f"it answered {status}", status=status, is_refusal=is_refusal)
        if self._is_search:
            keeping.refuse_if_elsewhere(self.requirements, response)
        if answering.names_missing_model(status, response.body):
            self.plane.fleet.report_missing_model(attempt.backend.id, attempt.reserved.model)
            raise UpstreamError(UpstreamFault.STATUS, "it does not have the model", status=status, is_refusal=True)
        if context_exceeded(status, response.body) is not None:
            raise UpstreamError(UpstreamFault.STATUS, f"it answered {status}", status=status)

    def _as_context_error(self, exc: UpstreamError, attempt: Attempt) -> UpstreamError:
        """Return *exc*, named for what it is if the backend's own words say that the prompt exceeds its context."""
        response = attempt.asked
        if response is None or exc.status is None or response.mode is not Mode.WHOLE:
            return exc
        exceeded = context_exceeded(exc.status, response.body)
        if exceeded is None:
            return exc
        self.routing.refused_as_too_long(attempt.reserved, exceeded.limit)
        return UpstreamError(
            UpstreamFault.CONTEXT_EXCEEDED, "the prompt exceeds its context", status=exc.status, is_refusal=True
        )

    def _give_up(self, attempt: Attempt, exc: UpstreamError) -> None:
        attempt.ending = Ending.BACKEND_FAILED
        attempt.fault = exc.fault.value
        log.debug(
            "attempt_failed",
            request_id=self.record.request_id,
            backend=attempt.backend.name,
            fault=attempt.fault,
            status=exc.status,
        )
        if self.last_refusal is None or attempt.asked is not None or self.last_refusal[0].asked is None:
            # What a backend answered says more than that the next one could not be reached.
            self.last_refusal = attempt, exc, self.record.phase
        attempt.let_go(may_reuse=exc.fault in (UpstreamFault.STATUS, UpstreamFault.CREDENTIALS))
        self._settle(attempt)

    def _last_word(self) -> Attempt:
        """Return the failed attempt whose own error answer may be passed on; raise what is said in its place."""
        if self.last_refusal is None:
            raise RequestError("no_healthy_backend", "no backend could be asked", retry_after_s=5)
        attempt, exc, failed_in = self.last_refusal
        if self._is_elsewhere(exc) or (self._is_for_the_client(attempt, exc) and answering.is_presentable(attempt)):
            return attempt
        # That nobody else was found after it is not where it failed.
        self.record.enter(failed_in)
        if monotonic() >= self.deadline:
            raise RequestError("deadline_exceeded", "the request took longer than it may") from exc
        raise self._told(error_of(exc, retry_after_s=answering.retry_after_of(attempt))) from exc

    def _told(self, error: RequestError) -> RequestError:
        """Return what the client is told of the last failure, with what routing has said after it."""
        failed = Reject(error.code, error.message, retry_after_s=error.retry_after_s)
        reject = self._with_failures(self.routing.record.last_reject or failed)
        if error.code == NOBODY:
            # Who was not reached has no word of its own: it is routing's, as it stands in the record.
            return answering.rejection(reject)
        if error.status == SERVICE_UNAVAILABLE or reject.code == EXHAUSTED:
            own = replace(reject, code=error.code, message=error.message, retry_after_s=error.retry_after_s)
            return answering.rejection(own)
        return error

    def _with_failures(self, reject: Reject) -> Reject:
        failures = self._failures()
        return after_attempts(reject, failures, self.plane.fleet.snapshot.backends) if failures else reject

    def _failures(self) -> tuple[Verdict, ...]:
        """Return why each backend that was asked has not answered."""
        return tuple(answering.as_verdict(attempt.outcome) for attempt in self.attempts if attempt.outcome is not None)

    def _is_for_the_client(self, attempt: Attempt, exc: UpstreamError) -> bool:
        """Whether the backend's own error says something about the request, rather than about the proxy's key."""
        if exc.status is None or meaning_of(exc.status) is not StatusMeaning.CREDENTIALS:
            return exc.status is not None
        return self._takes_clients_key(attempt)

    def _takes_clients_key(self, attempt: Attempt) -> bool:
        """Whether the key that this backend sees is the client's, if it sends one."""
        return not attempt.upstream.stamp.replaces_credentials and self._may_pass_credentials(attempt)
