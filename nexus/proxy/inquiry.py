"""The search for an answer: backends are asked, best first, until one has something that may go to the client."""

from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Final

import structlog
from msgspec.structs import force_setattr, replace

from nexus.domain.outcome import AttemptOutcome, Ending, Phase
from nexus.domain.request import Endpoint, Requirements
from nexus.errors import RequestError, UpstreamError, UpstreamFault
from nexus.proxy import answering
from nexus.proxy.answer import Answer, Mode
from nexus.proxy.attempt import AUTH_STATUSES, Attempt, error_of
from nexus.proxy.headers import request_head
from nexus.proxy.heads import Head
from nexus.proxy.plane import DataPlane, Settings
from nexus.proxy.record import Record
from nexus.proxy.retry import RETRYABLE_STATUS, Next, Retries
from nexus.proxy.upstream import UpstreamConnection
from nexus.routing.decision import Reject, Reserved, Saturated
from nexus.routing.intent import Verdict
from nexus.routing.recording import DecisionRecord
from nexus.routing.rejections import EXHAUSTED, after_attempts, overload, saturation
from nexus.wire.protocol import StreamScan, WireProtocol

log = structlog.get_logger("nexus.proxy")

URGENT: Final = "high"
REJECTED: Final = 503
NOBODY: Final = "no_healthy_backend"


class Inquiry:
    """One question and the attempts to have it answered; what they hold is given back in :meth:`settle_all`."""

    __slots__ = (
        "_awaited",
        "_body",
        "_endpoint",
        "_head",
        "_last_refusal",
        "_plane",
        "_protocol",
        "_record",
        "_requirements",
        "_retries",
        "_routing",
        "_settings",
        "_target",
        "attempts",
        "deadline",
    )

    def __init__(  # noqa: PLR0913 - what one request is
        self,
        plane: DataPlane,
        settings: Settings,
        record: Record,
        *,
        endpoint: Endpoint,
        protocol: WireProtocol,
        head: Head,
        target: bytes,
        body: bytes,
        requirements: Requirements,
    ) -> None:
        """:param target: path and query."""
        self._plane = plane
        self._settings = settings
        self._record = record
        self._endpoint = endpoint
        self._protocol = protocol
        self._head = head
        self._target = target
        self._body = body
        self._requirements = requirements
        server = settings.config.server
        limit_s = server.stream_timeout_seconds if requirements.is_stream else server.request_timeout_seconds
        self.deadline = record.began_at + limit_s
        """Of the monotonic clock: when the whole exchange must be over."""
        self._retries = Retries(max_retries=settings.config.routing.max_retries, budget=plane.budget)
        self._routing = settings.router.begin(
            request_id=record.request_id,
            endpoint=endpoint,
            requirements=requirements,
            headers=head.hints,
            received_unix_s=record.received_unix_s,
        )
        if head.hints and self._routing.request.wants_explanation:
            plane.decisions.add_with_facts(self._routing.record)
            record.decision_line = b"X-Nexus-Decision-Id: %b\r\n" % record.request_id.encode()
        else:
            plane.decisions.add(self._routing.record)
        self._last_refusal: tuple[Attempt, UpstreamError, Phase] | None = None
        self._awaited: set[str] = set()
        self.attempts: list[Attempt] = []

    @property
    def decision(self) -> DecisionRecord:
        """All that routing has said so far."""
        return self._routing.record

    async def find_answer(self) -> Attempt:
        """Return the attempt whose answer may go to the client.

        :raises RequestError: there is none.
        """
        while (found := self._route()) is not None:
            attempt = self._begin(await self._wait_for_slot(found) if isinstance(found, Saturated) else found)
            failure = await self._try(attempt)
            if failure is None:
                return attempt
            if failure is Next.GIVE_UP:
                break
        return self._last_word()

    def first_byte_s(self, attempt: Attempt) -> float:
        """Return how long this backend may take to begin; an answer that is not streamed begins when it is whole."""
        facts = attempt.backend.facts(attempt.reserved.model)
        if facts is not None and facts.first_byte_s is not None:
            return facts.first_byte_s
        timeouts = self._settings.config.timeouts
        is_stream = self._requirements.is_stream
        return timeouts.first_byte_seconds if is_stream else timeouts.whole_answer_seconds

    def settle_all(self, ending: Ending) -> tuple[AttemptOutcome, ...]:
        """Settle what is not settled yet, as ended by *ending*, and return all that was tried."""
        outcomes: list[AttemptOutcome] = []
        for attempt in self.attempts:
            outcome = attempt.outcome
            if outcome is None:
                attempt.let_go(may_reuse=False)
                attempt.ending = ending
                outcome = self._settle(attempt)
            outcomes.append(outcome)
        return tuple(outcomes)

    def _settle(self, attempt: Attempt) -> AttemptOutcome:
        """Give back what *attempt* holds and tell the fleet what it came to."""
        outcome = attempt.settle(monotonic())
        self._record.cost(attempt.cost_usd)
        self._plane.fleet.report(attempt.backend.id, outcome, retry_after_s=answering.retry_after_of(attempt))
        self._plane.line.slot_freed(attempt.backend.name)
        return outcome

    # route, queue

    def _route(self) -> Reserved | Saturated | None:
        """Return what routing finds; None when somebody has failed and nobody else is left."""
        self._record.enter("route")
        found = self._routing.next(self._plane.fleet.snapshot)
        if not isinstance(found, Reject):
            return found
        if self._last_refusal is not None:
            return None
        raise answering.rejection(found)

    def _begin(self, reserved: Reserved) -> Attempt:
        """Return an attempt that holds what was reserved."""
        self._record.routed(reserved)
        load = reserved.backend.load
        force_setattr(load, "requests_total", load.requests_total + 1)
        attempt = Attempt(reserved, self._plane.upstreams.of(reserved.backend), monotonic())
        self.attempts.append(attempt)
        if self._record.trace is not None:
            self._record.trace.attempt(attempt.backend, attempt.started_at)
        return attempt

    async def _wait_for_slot(self, saturated: Saturated) -> Reserved:
        try:
            return await self._wait_in_line(saturated)
        except RequestError as exc:
            reasons = (*self._failures(), *saturation(saturated))
            answering.give_reasons(exc, reasons, self._plane.fleet.snapshot.backends)
            raise

    async def _wait_in_line(self, saturated: Saturated) -> Reserved:
        if not self._settings.config.queue.enabled:
            raise RequestError("overloaded", overload(saturated), retry_after_s=1)
        self._record.enter("queue")
        self._awaited = {backend.name for backend in saturated.backends}
        log.debug("exchange_queued", request_id=self._record.request_id, backends=self._awaited)
        return await self._plane.line.wait(
            self._awaited,
            self._try_now,
            give_back=self._give_back,
            is_urgent=self._head.hints.get("x-nexus-priority", "").strip().lower() == URGENT,
            left_s=self.deadline - monotonic(),
        )

    def _try_now(self) -> Reserved | None:
        found = self._routing.next(self._plane.fleet.snapshot)
        if isinstance(found, Reject):
            raise answering.rejection(self._with_failures(found))
        if isinstance(found, Saturated):
            # The fleet may have changed since it began to wait, and with it whose slots would do.
            self._awaited.clear()
            self._awaited.update(backend.name for backend in found.backends)
            return None
        return found

    def _give_back(self, reserved: Reserved) -> None:
        """Settle what was handed over in the moment in which the client left."""
        unused = Attempt(reserved, self._plane.upstreams.of(reserved.backend), monotonic())
        unused.ending = Ending.CLIENT_LEFT
        self._settle(unused)

    # send, await the first byte

    async def _try(self, attempt: Attempt) -> Next | None:
        """Ask one backend, and once more when its connection was stale; None when its answer may go to the client."""
        pool = attempt.upstream.pool
        is_fresh = False
        while True:
            self._record.enter("send")
            try:
                connection = None if is_fresh else pool.take_idle()
                answer = self._send(attempt, connection or await pool.open())
                deadlines = self._plane.deadlines
                deadlines.begin(answer, self._first_byte_by(attempt))
                try:
                    await answer.ready
                finally:
                    deadlines.end(answer)
                self._judge(attempt, answer)
            except UpstreamError as exc:
                what = self._after(exc, attempt)
                if what is not Next.SAME_BACKEND_FRESH:
                    self._give_up(attempt, exc)
                    return what
                attempt.let_go(may_reuse=False)
                is_fresh = True
            else:
                return None

    def _send(self, attempt: Attempt, connection: UpstreamConnection) -> Answer:
        """Send the request, and return what will be its answer."""
        answer = Answer(
            self._plane.loop,
            connection,
            partial(_open_scan, self._protocol, self._endpoint, attempt.listener),
            wants_stream=self._requirements.is_stream,
        )
        attempt.begin(connection, answer)
        body = self._body_for(attempt)
        connection.send(self._head_for(attempt, len(body)), body, answer)
        self._record.enter("await_first_byte")
        return answer

    def _first_byte_by(self, attempt: Attempt) -> float:
        return min(monotonic() + self.first_byte_s(attempt), self.deadline)

    def _after(self, exc: UpstreamError, attempt: Attempt) -> Next:
        now = monotonic()
        return self._retries.after(
            exc, attempt.backend, now_s=now, left_s=self.deadline - now, wait_s=self.first_byte_s(attempt)
        )

    def _body_for(self, attempt: Attempt) -> bytes:
        if not answering.is_renamed(attempt, self._requirements.model):
            return self._body
        return answering.renamed(self._endpoint, self._head, self._body, attempt.reserved.model)

    def _head_for(self, attempt: Attempt, body_length: int) -> bytes:
        number = len(self.attempts)
        request_id, trace = self._record.request_id, self._record.trace
        return request_head(
            attempt.upstream.stamp,
            self._head,
            self._target,
            body_length=body_length,
            # Engines take it as their own id: two attempts with one id would be one request to them.
            request_id=request_id if number == 1 else f"{request_id}-{number}",
            may_pass_credentials=self._may_pass_credentials(attempt),
            trace_lines=None if trace is None else trace.lines(),
        )

    def _may_pass_credentials(self, attempt: Attempt) -> bool:
        """Whether the client's own key may go to this backend: not where it is ours, and never to a second backend."""
        return attempt is self.attempts[0] and not self._settings.config.server.api_keys

    def _judge(self, attempt: Attempt, answer: Answer) -> None:
        if answer.mode is not Mode.WHOLE:
            return
        if answer.status in RETRYABLE_STATUS:
            raise UpstreamError(UpstreamFault.STATUS, f"it answered {answer.status}", status=answer.status)
        if answer.status == 404 and answering.names_missing_model(answer.body):
            self._plane.fleet.report_missing_model(attempt.backend.id, attempt.reserved.model)
            raise UpstreamError(UpstreamFault.STATUS, "it does not have the model", status=404)
        answering.refuse_unfinished(self._protocol, self._endpoint, answer)

    def _give_up(self, attempt: Attempt, exc: UpstreamError) -> None:
        attempt.ending = Ending.BACKEND_FAILED
        attempt.fault = exc.fault.value
        log.debug(
            "attempt_failed",
            request_id=self._record.request_id,
            backend=attempt.backend.name,
            fault=attempt.fault,
            status=exc.status,
        )
        self._last_refusal = attempt, exc, self._record.phase
        attempt.let_go(may_reuse=exc.fault is UpstreamFault.STATUS)
        self._settle(attempt)

    def _last_word(self) -> Attempt:
        """Return the failed attempt whose own error answer may be passed on; raise what is said in its place."""
        if self._last_refusal is None:
            raise RequestError("no_healthy_backend", "no backend could be asked", retry_after_s=5)
        attempt, exc, failed_in = self._last_refusal
        if self._is_for_the_client(attempt, exc) and answering.is_presentable(attempt):
            return attempt
        # That nobody else was found after it is not where it failed.
        self._record.enter(failed_in)
        if monotonic() >= self.deadline:
            raise RequestError("deadline_exceeded", "the request took longer than it may") from exc
        raise self._told(error_of(exc, retry_after_s=answering.retry_after_of(attempt))) from exc

    def _told(self, error: RequestError) -> RequestError:
        """Return what the client is told of the last failure, with what routing has said after it."""
        failed = Reject(error.code, error.message, retry_after_s=error.retry_after_s)
        reject = self._with_failures(self._routing.record.last_reject or failed)
        if error.code == NOBODY:
            # Who was not reached has no word of its own: it is routing's, as it stands in the record.
            return answering.rejection(reject)
        if error.status == REJECTED or reject.code == EXHAUSTED:
            own = replace(reject, code=error.code, message=error.message, retry_after_s=error.retry_after_s)
            return answering.rejection(own)
        return error

    def _with_failures(self, reject: Reject) -> Reject:
        failures = self._failures()
        return after_attempts(reject, failures, self._plane.fleet.snapshot.backends) if failures else reject

    def _failures(self) -> tuple[Verdict, ...]:
        """Return why each backend that was asked has not answered."""
        return tuple(answering.as_verdict(attempt.outcome) for attempt in self.attempts if attempt.outcome is not None)

    def _is_for_the_client(self, attempt: Attempt, exc: UpstreamError) -> bool:
        """Whether the backend's own error says something about the request, rather than about the proxy's key."""
        if exc.status not in AUTH_STATUSES:
            return exc.status is not None
        head = self._head
        has_key = bool(head.authorization or head.api_key)
        return has_key and not attempt.upstream.stamp.key_line and self._may_pass_credentials(attempt)


def _open_scan(protocol: WireProtocol, endpoint: Endpoint, listener: Callable[[str], None] | None) -> StreamScan:
    scan = protocol.open_stream(endpoint)
    if listener is not None:
        scan.listen(listener)
    return scan
