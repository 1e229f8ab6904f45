"""Finds an answer: asks one backend after the other, best first, until one has something that may go to the client."""

from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Final

import msgspec
import structlog
from msgspec.structs import replace

from nexus.domain.outcome import AttemptOutcome, Ending, Phase
from nexus.domain.request import Endpoint, Kept, Requirements
from nexus.domain.statuses import FIRST_ERROR
from nexus.error_codes import UpstreamFault
from nexus.errors import RequestError, UpstreamError
from nexus.proxy.client.connection import ClientConnection
from nexus.proxy.client.incoming import IncomingRequest
from nexus.proxy.exchange import judging
from nexus.proxy.exchange.attempt import Attempt
from nexus.proxy.exchange.context import DataPlane, Settings
from nexus.proxy.exchange.early_head import EarlyHead
from nexus.proxy.exchange.expected_response import MAX_TRANSLATED_BYTES, ExpectedResponse
from nexus.proxy.exchange.first_byte import begun
from nexus.proxy.exchange.record import Record
from nexus.proxy.exchange.rejection import rejection
from nexus.proxy.exchange.rerouting import is_undecided, look_for_other_backend
from nexus.proxy.exchange.response import Response
from nexus.proxy.exchange.response_memory import MemoryShare
from nexus.proxy.exchange.retry import Next, Retries
from nexus.proxy.exchange.rewriting import body_for
from nexus.proxy.exchange.slot_wait import wait_for_slot
from nexus.proxy.exchange.translating import NOT_TRANSLATABLE, translate_whole, translated_head, translation_for
from nexus.proxy.headers.to_backend import request_head
from nexus.proxy.upstream.connection import UpstreamConnection
from nexus.proxy.upstream.response_parser import NOT_MODIFIED
from nexus.routing.decision import Decision, Reject, Reserved, Saturated
from nexus.routing.decision_record import Request
from nexus.routing.rejections import REST_ON_PROBES
from nexus.routing.router import Routing
from nexus.wire.protocol import WireProtocol
from nexus.wire.responses.nature import ExpectedFormat
from nexus.wire.streams.event_buffer import EventRoom
from nexus.wire.streams.scan import StreamScan

_NOT_SERVED: Final = frozenset({404, 405, 501})

log = structlog.get_logger("nexus.proxy")


class Failover(msgspec.Struct, eq=False):
    """One request and its attempts; what they hold is given back in :meth:`settle_all`."""

    plane: DataPlane
    settings: Settings
    request: IncomingRequest
    record: Record
    body: bytes
    requirements: Requirements
    deadline: float
    """When the whole exchange must be over, on the monotonic clock."""
    routing: Routing
    retries: Retries
    attempts: list[Attempt] = []
    last_failure: tuple[Attempt, UpstreamError, Phase] | None = None
    kept: Kept | None = None
    """Where the object is kept that the request refers to; None: it refers to none, or its backend is not known."""
    successor: Reserved | None = None
    """The backend reserved to take over from a silent one; None again once it is asked."""
    not_translatable: RequestError | None = None
    """Why the request could not be translated for a backend; None: it could, or did not have to be."""
    moved: Attempt | None = None
    """The attempt at a silent backend, while it is undecided whether it counts as a failure."""

    client: ClientConnection | None = None
    """The client's connection, for a reply that begins before there is an answer."""
    early: EarlyHead | None = None
    """Begins the reply while a model is loaded; None unless one is."""

    async def find_answer(self) -> Attempt:
        """Return the attempt whose answer may go to the client.

        :raises RequestError: there is none.
        """
        while True:
            found: Decision | None = self._route()
            if isinstance(found, Reject) and (found := await self._look_again(found)) is None:
                break
            reserved = self._as_it_is_now(await wait_for_slot(self, found)) if isinstance(found, Saturated) else found
            if reserved is None:
                continue
            attempt = await self._begin_translated(reserved) if reserved.translated_to else self._begin(reserved)
            if attempt is None:
                continue
            failure = await self._try(attempt)
            if failure is None:
                return attempt
            if failure is Next.GIVE_UP:
                break
        return judging.last_word(self)

    def first_byte_s(self, attempt: Attempt) -> float:
        """Return how long this backend may take to begin; an answer that is not streamed has begun once it is whole."""
        timeouts = self.settings.config.timeouts
        if not self.requirements.is_stream:
            return timeouts.whole_answer_seconds or self.settings.config.server.request_timeout_seconds
        facts = attempt.backend.facts(attempt.reserved.model)
        if facts is not None and facts.first_byte_s is not None:
            return facts.first_byte_s
        return timeouts.first_byte_seconds or attempt.backend.kind.first_byte_s

    def may_pass_credentials(self, attempt: Attempt) -> bool:
        """Whether the client's own key may go along: on the first attempt only, and only without ``server.api_keys``.

        A key of Nexus goes to no backend in any case; see :class:`~nexus.proxy.client.key_filter.KeyFilter`.
        """
        return attempt is self.attempts[0] and not self.settings.config.server.api_keys

    def settle_all(self, ending: Ending) -> tuple[AttemptOutcome, ...]:
        """Settle with *ending* whatever is not settled yet, and return the outcomes of all attempts."""
        if self.successor is not None:
            self.give_back(self.successor)
            self.successor = None
        outcomes: list[AttemptOutcome] = []
        for attempt in self.attempts:
            outcomes.append(attempt.outcome or self.settle(attempt, ending))  # noqa: PERF401 - a comprehension is one more call
        return tuple(outcomes)

    def settle(self, attempt: Attempt, ending: Ending) -> AttemptOutcome:
        """Give back what *attempt* holds, which has ended with *ending*, and report its outcome to the fleet."""
        if attempt.lent is not None:
            attempt.let_go(may_reuse=False)
        attempt.ending = ending
        outcome = attempt.settle(monotonic())
        if attempt.cost_usd is not None:
            self.record.cost(attempt.cost_usd)
        if (self.moved is None and outcome.fault is None) or not is_undecided(self, attempt, outcome):
            self.plane.fleet.report(attempt.backend.id, outcome, retry_after_s=attempt.retry_after_s)
        self.plane.queue.slot_freed(attempt.backend.name)
        return outcome

    # route, queue

    def _route(self) -> Decision:
        """Return the backend that was reserved while a silent one was asked, or else what routing finds."""
        if (successor := self.successor) is not None:
            self.successor = None
            if (reserved := self._as_it_is_now(successor)) is not None:
                return reserved
        self.record.enter("route")
        return self.routing.next(self.plane.fleet.snapshot)

    async def _look_again(self, found: Reject) -> Reserved | Saturated | None:
        """Return what routing finds once backends that may have changed are probed.

        None when an attempt has failed and no other backend is left: the failure is the answer.

        :raises RequestError: the request is refused.
        """
        if self.last_failure is not None:
            return None
        routing, fleet = self.routing, self.plane.fleet
        if found.code in REST_ON_PROBES and await fleet.look(lambda: routing.has_healthy(fleet.snapshot)):
            again = routing.next(fleet.snapshot)
            if not isinstance(again, Reject):
                return again
            found = again
        raise self.not_translatable or rejection(found)

    def _as_it_is_now(self, reserved: Reserved) -> Reserved | None:
        """Return a *reserved* of a while ago with the present address of its backend, to which the keys stored under
        its name belong.

        Return None, and give *reserved* back, if the backend has since left the fleet, so that its keys are gone, or
        has moved to another privacy zone, which routing has not checked.
        """
        former = reserved.backend
        backend = self.plane.fleet.snapshot.by_id.get(former.id)
        if backend is former:
            return reserved
        if backend is None or backend.zone_of(reserved.model) != former.zone_of(reserved.model):
            self.give_back(reserved)
            return None
        return reserved if backend.url == former.url else replace(reserved, backend=backend)

    def give_back(self, reserved: Reserved) -> None:
        """Give back a reservation that no attempt will use; it counts neither for nor against the backend."""
        unused = Attempt(reserved, self.plane.upstreams.of(reserved.backend), monotonic())
        unused.ending = Ending.CLIENT_LEFT
        # Not settle(): this says nothing of a silent backend that is still undecided.
        self.plane.fleet.report(reserved.backend.id, unused.settle(monotonic()), retry_after_s=None)
        self.plane.queue.slot_freed(reserved.backend.name)

    # send, await the first byte

    def _begin(self, reserved: Reserved) -> Attempt:
        """Return an attempt that holds what was reserved."""
        record, wanted, backend = self.record, self.requirements, reserved.backend
        record.reserved = reserved
        backend.load.count_request()
        attempt = Attempt(
            reserved,
            self.plane.upstreams.of(backend),
            monotonic(),
            self.request.endpoint.capability != "keep",
            wanted.prompt_tokens,
            wanted.max_tokens,
            wanted.is_stream,
        )
        self.attempts.append(attempt)
        if record.trace is not None:
            record.trace.attempt(backend, attempt.started_at)
        return attempt

    async def _begin_translated(self, reserved: Reserved) -> Attempt | None:
        """Return an attempt at a backend that speaks another dialect; None, and *reserved* is given back: the request
        cannot be said there."""
        try:
            translation = await translation_for(self, reserved)
        except RequestError as exc:
            self.give_back(reserved)
            if exc.code != NOT_TRANSLATABLE:
                raise
            self.not_translatable = exc
            self.routing.record.note_untranslatable(exc.message, exc.param)
            return None
        except BaseException:
            self.give_back(reserved)
            raise
        attempt = self._begin(reserved)
        attempt.translation = translation
        return attempt

    async def _try(self, attempt: Attempt) -> Next | None:
        """Ask one backend, again if a reused connection was stale; return None once its answer may go to the client."""
        pool = attempt.upstream.pool
        is_fresh = False
        while True:
            self.record.enter("send")
            try:
                connection = None if is_fresh else pool.take_idle()
                response = self._send(attempt, connection or await pool.open())
                wait_s, look = self.first_byte_s(attempt), partial(look_for_other_backend, self, attempt, response)
                await begun(attempt, response, self.plane.deadlines, wait_s=wait_s, last_at=self.deadline, look=look)
                if response.mode == "whole" and (
                    response.status >= FIRST_ERROR or response.status == NOT_MODIFIED or not response.is_framed
                ):
                    judging.refuse_bad(self, attempt, response)
                if attempt.translation is not None:
                    await translate_whole(self, attempt, response)
            except UpstreamError as exc:
                # It is kept, and its frames refer to this failover: only the garbage collector would free them.
                exc.__traceback__ = None
                failure = judging.as_context_error(self, attempt, exc)
                what = self._after(failure, attempt)
                if what is not Next.SAME_BACKEND_FRESH:
                    self._note_failure(attempt, failure)
                    return what
                attempt.let_go(may_reuse=False)
                is_fresh = True
            else:
                return None

    def _send(self, attempt: Attempt, connection: UpstreamConnection) -> Response:
        """Send the request, and return its response, of which nothing has arrived yet."""
        plane, request, record, requested = self.plane, self.request, self.record, self.requirements.model
        endpoint, head, number = request.endpoint, request.head, len(self.attempts)
        protocol, target, body = request.protocol, request.target, self.body
        if (translation := attempt.translation) is not None:
            protocol, endpoint, body = translation.protocol, translation.endpoint, translation.conversion.body
            head, target = translated_head(head, endpoint, attempt.backend), endpoint.path.encode()
        expected = ExpectedResponse(
            protocol,
            endpoint,
            ExpectedFormat(self.requirements.is_stream, endpoint.streams_by_default, endpoint.may_be_text),
            # Not a method of this failover: an answer that refers to it would be freed by the garbage collector only.
            partial(_open_scan, protocol, endpoint, plane.event_room, attempt.listener),
            head.accept,
            max_bytes=None if translation is None else MAX_TRANSLATED_BYTES,
        )
        share = MemoryShare(plane.response_memory)
        response = Response(plane.loop, plane.loop.create_future(), connection, expected, share=share)
        attempt.begin(connection, response)
        if attempt.load is not None:
            self.early = self.early or (None if self.client is None else EarlyHead(self.client, self))
            if self.early is not None:
                self.early.watch(attempt)
            attempt.on_loaded = plane.queue.fleet_changed
            if attempt.load.requests == 1:
                # Others that wait for the same model can be sent along.
                plane.queue.fleet_changed()
        if translation is None and attempt.reserved.model != requested:
            body = body_for(attempt, endpoint, head, body, requested)
        request_id = record.client_request_id or record.request_id
        sent_head = request_head(
            attempt.upstream.head_template,
            head,
            target,
            method=request.method,
            body_length=len(body),
            # Engines use it as their own id, and would take two attempts with the same id for one request.
            request_id=request_id if number == 1 else f"{request_id}-{number}",
            may_pass_credentials=self.may_pass_credentials(attempt),
            trace_lines=None if record.trace is None else record.trace.lines(),
        )
        connection.send(sent_head, body, response)
        record.enter("await_first_byte")
        return response

    def _after(self, exc: UpstreamError, attempt: Attempt) -> Next:
        if self.successor is not None or judging.is_elsewhere(self, exc):
            # Another backend is reserved already, or this one lacks what was asked for and has done nothing.
            return Next.ANOTHER_BACKEND
        now = monotonic()
        return self.retries.after(
            exc, attempt.backend, now_s=now, left_s=self.deadline - now, wait_s=self.first_byte_s(attempt)
        )

    def _note_failure(self, attempt: Attempt, exc: UpstreamError) -> None:
        attempt.fault = exc.fault.value
        log.debug(
            "attempt_failed",
            request_id=self.record.request_id,
            backend=attempt.backend.name,
            fault=attempt.fault,
            status=exc.status,
        )
        before = None if self.last_failure is None else self.last_failure[0]
        # That another endpoint of a backend is missing, too, says less than its first answer, in the client's protocol.
        says_more = attempt.translation is None or before is None or exc.status not in _NOT_SERVED
        if before is None or before.asked is None or (attempt.asked is not None and says_more):
            # What one backend answered says more than the failure to reach the next.
            self.last_failure = attempt, exc, self.record.phase
        attempt.let_go(may_reuse=exc.fault in (UpstreamFault.STATUS, UpstreamFault.CREDENTIALS))
        self.settle(attempt, Ending.BACKEND_FAILED)


def begin_failover(  # noqa: PLR0913 - what is known of one request
    plane: DataPlane,
    settings: Settings,
    request: IncomingRequest,
    record: Record,
    body: bytes,
    requirements: Requirements,
    kept: Kept | None = None,
) -> Failover:
    """Return the failover of one request, before any backend is asked."""
    config, head = settings.config, request.head
    server = config.server
    limit_s = server.stream_timeout_seconds if requirements.is_stream else server.request_timeout_seconds
    asked = Request(
        record.request_id,
        request.endpoint,
        requirements,
        head.hints,
        record.received_unix_s,
        record.client_request_id,
        request.key_digest,
        kept,
    )
    routing = Routing(settings.router, asked)
    if head.hints and routing.request.wants_explanation:
        plane.decisions.add_with_facts(routing.record)
        record.decision_line = b"X-Nexus-Decision-Id: %b\r\n" % record.request_id.encode()
    else:
        plane.decisions.add(routing.record)
    retries = Retries(max_retries=config.routing.max_retries, budget=plane.budget)
    deadline = record.began_at + limit_s
    return Failover(plane, settings, request, record, body, requirements, deadline, routing, retries, kept=kept)


def _open_scan(
    protocol: WireProtocol, endpoint: Endpoint, room: EventRoom, listener: Callable[[str], None] | None
) -> StreamScan:
    """Return a scan of a streamed answer, which passes the text on to *listener*."""
    scan = protocol.open_stream(endpoint)
    scan.bound(room)
    if listener is not None:
        scan.listen(listener)
    return scan
