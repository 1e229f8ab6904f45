"""One request and its answer, from the client's first byte to the last byte sent back."""

import asyncio
from collections.abc import Awaitable
from functools import partial
from http import HTTPStatus
from time import monotonic

import msgspec
from aiohttp.http import HttpVersion11

from nexus.domain.outcome import AttemptOutcome, Ending
from nexus.domain.statuses import FIRST_ERROR
from nexus.error_codes import CODES
from nexus.errors import RequestError
from nexus.proxy.client import replies
from nexus.proxy.client.body import preview, receive, understand
from nexus.proxy.client.connection import ClientConnection
from nexus.proxy.client.incoming import IncomingRequest
from nexus.proxy.client.request_reader import Received
from nexus.proxy.exchange import resources
from nexus.proxy.exchange.attempt import Attempt
from nexus.proxy.exchange.context import DataPlane, Settings
from nexus.proxy.exchange.early_head import EarlyHead, unfit_answer
from nexus.proxy.exchange.estimating import ESTIMATED_LINE, estimated_count
from nexus.proxy.exchange.expected_response import DOCUMENT_TYPE
from nexus.proxy.exchange.failover import Failover, begin_failover
from nexus.proxy.exchange.first_byte import turn_until
from nexus.proxy.exchange.pieces import pieces_of
from nexus.proxy.exchange.record import Record
from nexus.proxy.exchange.rejection import rejecting_stage
from nexus.proxy.exchange.relay import End, StreamRelay
from nexus.proxy.exchange.reply_head import reply_head
from nexus.proxy.exchange.response import Response
from nexus.proxy.exchange.rewriting import event_restorer, restored
from nexus.proxy.exchange.translating import Translation
from nexus.proxy.headers.to_client import NO_BACKEND_LINES, SANDBOX_LINE
from nexus.proxy.upstream.response_parser import WITHOUT_BODY
from nexus.proxy.write_batch import MAX_BATCHED_BYTES
from nexus.wire.requests.prompt_blocks import Marking
from nexus.wire.token_estimates import estimated_usage, is_uncounted, tokens_of


class Exchange(msgspec.Struct, eq=False):
    """Carries one request to its end; :meth:`run` has its phases in order.

    However :meth:`run` ends, at whatever await, :meth:`_settle` runs once: it gives back the slot and the connection,
    and calls the observers with the outcome.
    """

    plane: DataPlane
    settings: Settings
    """The settings in force when the request began; a reload does not change them."""
    client: ClientConnection
    request: IncomingRequest
    received: Received
    """The request as the parser has read it: its body may still be arriving."""
    record: Record
    failover: Failover | None = None
    relay: StreamRelay | None = None
    is_shut_down: bool = False

    async def run(self) -> bool:
        """Carry the request to its end and say whether the client's connection may be used again."""
        plane, record = self.plane, self.record
        plane.in_flight += 1
        plane.exchanges.add(self)
        try:
            if plane.tracer is not None:
                record.trace = plane.tracer.begin(self.request.head.forward)
            failover = self.failover = await self._understand(await self._receive())
            failover.client = self.client
            attempt = await failover.find_answer()
            # The body is not sent again, and the client may be slow to read the answer.
            failover.body = b""
            record.enter("relay")
            response = attempt.response
            if (early := failover.early) is not None:
                early.stop()
                if early.has_begun and response.mode != "events":
                    return self._refuse(unfit_answer(response))
            if response.mode != "whole":
                return await self._reply_stream(failover, attempt, response)
            return await self._reply_whole(failover, attempt, response)
        except RequestError as exc:
            count = estimated_count(self.failover, exc)
            return self._refuse(exc) if count is None else self._reply_estimate(count)
        except asyncio.CancelledError:
            if not self.is_shut_down or (record.has_answered and (self._early is None or self.relay is not None)):
                self._broken_off()
                raise
            return self._refuse(RequestError("draining", "the proxy is shutting down", retry_after_s=5, close=True))
        except Exception as exc:  # noqa: BLE001 - a defect of Nexus: the client gets an error, the log the cause
            return self._fail(exc)
        finally:
            plane.in_flight -= 1
            plane.exchanges.discard(self)
            self._settle()

    def shut_down(self) -> None:
        """End it now: a stream with an error event, and a request that has no reply yet with an error."""
        self.is_shut_down = True
        if self.relay is not None:
            self.relay.cut("server_shutdown")
        elif not self.record.has_answered or self._early is not None:
            self.client.task.cancel()

    def abandon(self) -> None:
        """End it instead of running it: the client has left."""
        self._broken_off()
        self._settle()

    # receive

    def _receive(self) -> Awaitable[bytes]:
        head, (_, body, length), config = self.request.head, self.received, self.settings.config
        if self.plane.in_flight > config.server.max_concurrent_requests:
            raise RequestError("overloaded", "too many requests are under way", retry_after_s=1, close=True)
        return receive(
            body,
            head,
            length,
            write=self.client.write,
            limit=config.server.max_body_bytes,
            limit_key="server.max_body_bytes",
            deadline_s=config.timeouts.body_seconds,
        )

    async def _understand(self, body: bytes) -> Failover:
        plane, record, request = self.plane, self.record, self.request
        endpoint = request.endpoint
        record.bytes_in = len(body)
        record.enter("understand")
        router = self.settings.router
        is_wanted = router.marks_wanted(plane.fleet.snapshot) if router.wants_prompt_blocks else None
        marking = None if is_wanted is None else Marking(request.head.forward, is_wanted)
        requirements = await understand(request.protocol, endpoint, request.head, body, marking=marking)
        if request.ids or request.method != b"POST":
            record.method = request.method.decode()
            requirements = resources.with_references(requirements, request)
        record.understood(requirements)
        kept = await plane.owners.find(requirements.references) if requirements.references else None
        if self.settings.config.logging.enable_content_logging and endpoint.model != "none":
            record.prompt_preview = await preview(endpoint, request.head, body)
        return begin_failover(plane, self.settings, request, record, body, requirements, kept)

    # relay

    async def _reply_whole(self, failover: Failover, attempt: Attempt, response: Response) -> bool:
        keep_alive = self.client.may_follow(self.request.message)
        head, body = self._whole(failover, attempt, response, keep_alive=keep_alive)
        attempt.let_go(may_reuse=True)
        self.record.answered(response.status, response.first_byte_at)
        if len(body) <= MAX_BATCHED_BYTES:
            self.client.write(head + body)
            self.record.bytes_out = len(body)
        else:
            # The slot is given back now: the client may be slow to read the body.
            failover.settle(attempt, Ending.FINISHED)
            pieces, size = pieces_of(body), len(body)
            response.held, body = [], b""
            self.client.write(head)
            try:
                await self.client.deliver(pieces)
            finally:
                self.record.bytes_out = size - sum(map(len, pieces))
        self.record.ended(Ending.FINISHED, response.status)
        return keep_alive

    def _whole(
        self, failover: Failover, attempt: Attempt, response: Response, *, keep_alive: bool
    ) -> tuple[bytes, bytes]:
        """Return head and body of a whole reply, and note the usage that it reports."""
        request, requirements, translation = self.request, failover.requirements, attempt.translation
        protocol = response.expected.protocol
        body = restored(response.body, attempt, requirements.model) if attempt.is_renamed else response.body
        if response.status >= FIRST_ERROR:
            body = attempt.upstream.redacted(body)
        elif request.endpoint.capability != "keep":
            attempt.usage = protocol.usage_of(body)
            if protocol.load_s_of is not None:
                attempt.note_load(protocol.load_s_of(body))
            if is_uncounted(attempt.usage, requirements):
                text = protocol.text_of(body)
                self.record.estimated = estimated_usage(request.endpoint, requirements, tokens_of(text))
                if attempt.usage is None and attempt.listener is not None and response.collector is None:
                    attempt.listener(text)
        if translation is None:
            resources.note_whole(self.plane.owners, request, attempt, response, requirements)
        else:
            body = self._translated(translation, attempt, response, body)
        head = reply_head(self.record, attempt, response, len(failover.attempts))
        last_lines = self._last_lines(keep_alive=keep_alive)
        if response.status in WITHOUT_BODY:
            # RFC 9110, 8.6: a 204 has no Content-Length, and a 304 may only have that of the 200 that it replaces.
            return b"%b%b\r\n" % (head, last_lines), b""
        return b"%bContent-Length: %d\r\n%b\r\n" % (head, len(body), last_lines), body

    def _translated(self, translation: Translation, attempt: Attempt, response: Response, body: bytes) -> bytes:
        """Return a whole reply in the client's dialect, and label the response accordingly."""
        self.record.translated = translation
        if response.status < FIRST_ERROR:
            stream_type = self.request.protocol.stream_type.encode()
            response.head = response.head.typed(stream_type if attempt.wants_stream else DOCUMENT_TYPE)
            return attempt.translated
        response.head = response.head.typed(DOCUMENT_TYPE)
        return translation.conversion.error(response.status, body, self.record.request_id)

    def _reply_estimate(self, body: bytes) -> bool:
        record, keep_alive = self.record, self.client.may_follow(self.request.message)
        reply = replies.page(
            HTTPStatus.OK,
            replies.JSON,
            body,
            request_id=record.request_id,
            client_request_id=record.client_request_id,
            lines=ESTIMATED_LINE + NO_BACKEND_LINES + record.decision_line + self._last_lines(keep_alive=keep_alive),
        )
        self.client.write(reply)
        record.answered(HTTPStatus.OK, monotonic())
        record.bytes_out = len(body)
        record.ended(Ending.FINISHED, HTTPStatus.OK)
        return keep_alive

    async def _reply_stream(self, failover: Failover, attempt: Attempt, response: Response) -> bool:
        request, requirements, translation = self.request, failover.requirements, attempt.translation
        if translation is not None:
            self.record.translated = translation
            response.head = response.head.typed(request.protocol.stream_type.encode())
        is_chunked = request.message.version == HttpVersion11
        keep_alive = self.client.may_follow(request.message) and is_chunked
        early = self._early
        if early is None:
            self.client.write(
                b"%b%b%b\r\n"
                % (
                    reply_head(self.record, attempt, response, len(failover.attempts)),
                    b"Transfer-Encoding: chunked\r\n" if is_chunked else b"",
                    self._last_lines(keep_alive=keep_alive),
                )
            )
            self.record.answered(response.status, response.begun_at)
        else:
            keep_alive = early.keep_alive
        if translation is None:
            resources.note_stream(self.plane.owners, request, attempt, response, requirements)
        first_byte_s, figures = failover.first_byte_s(attempt), attempt.backend.load.model(attempt.reserved.model)
        relay = self.relay = StreamRelay(
            self.client,
            attempt.connection,
            response,
            is_chunked=is_chunked,
            idle_s=self.settings.config.timeouts.stream_idle_seconds,
            first_content_by=attempt.asked_at + first_byte_s,
            turn_until=partial(turn_until, attempt.backend, figures, first_byte_s),
            figures=figures,
            deadline=failover.deadline,
            restore=event_restorer(attempt, requirements.model),
            translation=None if translation is None else translation.conversion.stream(response.scan.framing),
        )
        relay.start()
        try:
            try:
                how = await relay.end()
            finally:
                self._note_stream(failover, attempt, response)
            self._end_stream(attempt, response, relay, how)
            # The slot is given back now: the client may be slow to read what is left.
            failover.settle(attempt, self.record.ending)
            await relay.taken()
        finally:
            relay.stop()
            self.record.bytes_out = relay.bytes_out + (0 if early is None else early.bytes_out)
        return keep_alive and how is End.COMPLETE

    def _note_stream(self, failover: Failover, attempt: Attempt, response: Response) -> None:
        """Note the usage that a stream reported before it ended or broke off, or an estimate of it."""
        self.record.begun(response.begun_at)
        attempt.usage = response.scan.usage() if self.request.endpoint.capability != "keep" else None
        load_s_of = response.expected.protocol.load_s_of
        if load_s_of is not None and (last := response.scan.last_marked()) is not None:
            attempt.note_load(load_s_of(last.content))
        if response.mode == "events" and is_uncounted(attempt.usage, failover.requirements):
            tokens = response.scan.estimated_tokens()
            self.record.estimated = estimated_usage(self.request.endpoint, failover.requirements, tokens)

    def _end_stream(self, attempt: Attempt, response: Response, relay: StreamRelay, how: End) -> None:
        if how is End.COMPLETE and not response.scan.has_error:
            attempt.let_go(may_reuse=True)
            self.record.ended(Ending.FINISHED, response.status)
            return
        code = relay.code or "upstream_error"
        ending = Ending(CODES[code].ending)
        attempt.fault = code if ending is Ending.BACKEND_FAILED else None
        self.record.ended(ending, response.status, code, CODES[code].in_stream)

    # settle

    def _broken_off(self) -> None:
        """Note why the client did not receive its whole answer, unless a reason is noted already."""
        if (early := self._early) is not None and self.relay is None:
            self.record.bytes_out = early.bytes_out
        if self.record.code is None:
            if self.is_shut_down:
                ending = Ending.SHUT_DOWN
            else:
                ending = Ending.CLIENT_STALLED if self.client.has_stalled else Ending.CLIENT_LEFT
            self.record.ended(ending, 499)

    @property
    def _early(self) -> EarlyHead | None:
        """The head that was sent before there was an answer; None when none was."""
        early = None if self.failover is None else self.failover.early
        return early if early is not None and early.has_begun else None

    def _refuse(self, exc: RequestError) -> bool:
        if (early := self._early) is not None:
            early.fail(exc)
            self.record.bytes_out = early.bytes_out
            self.record.ended(Ending(CODES[exc.code].ending), exc.status, exc.code, exc.message)
            return False
        keep_alive = self.client.may_follow(self.request.message) and not exc.close
        lines = self.record.decision_line + self._last_lines(keep_alive=keep_alive or exc.close)
        attempts = len(self.failover.attempts) if self.failover is not None else 0
        if attempts > 1:
            # Otherwise the client's library might repeat what has just failed at several backends.
            lines += b"X-Nexus-Attempts: %d\r\nx-should-retry: false\r\n" % attempts
        self._write_error(exc, lines)
        self.record.ended(Ending(CODES[exc.code].ending), exc.status, exc.code, exc.message)
        if (stage := rejecting_stage(exc, self.record.phase)) is not None:
            self.record.rejected_by, self.record.rejected_because = stage, exc.reason or exc.message
        return keep_alive

    def _fail(self, exc: Exception) -> bool:
        self.record.crashed(exc)
        error = RequestError("internal_error", "a defect of the proxy; its log has the details", close=True)
        if self.record.has_answered:
            self.client.abort()
        else:
            self._write_error(error, self.record.decision_line + self.request.head.cors_lines)
        self.record.ended(Ending.NEXUS_FAILED, error.status, error.code, error.message)
        return False

    def _write_error(self, exc: RequestError, lines: bytes) -> None:
        record = self.record
        self.client.write(
            replies.error(
                self.request.protocol,
                exc,
                request_id=record.request_id,
                client_request_id=record.client_request_id,
                lines=lines,
            )
        )

    def _settle(self) -> None:
        record, failover = self.record, self.failover
        outcomes: tuple[AttemptOutcome, ...] = ()
        settling_since = monotonic() if record.trace is not None else 0.0
        if failover is not None:
            if failover.early is not None:
                failover.early.stop()
                # They refer to each other.
                failover.early = None
            outcomes = failover.settle_all(record.ending)
            # A failed attempt keeps its error, whose traceback keeps the failover: none of them may keep the body.
            failover.body = b""
            for attempt in failover.attempts:
                if attempt.asked is not None:
                    attempt.asked.forget()
        outcome = record.finish(outcomes)
        if failover is not None:
            failover.routing.record.outcome = outcome
        for observe in self.settings.observers:
            observe(outcome)
        if record.trace is not None:
            record.trace.end(outcome, record.phases, settling_since)

    def _last_lines(self, *, keep_alive: bool) -> bytes:
        lines = self.request.head.cors_lines
        if self.request.method == b"GET":
            # A link can make a browser open a backend's file, of any type, in the web origin of the dashboard.
            lines += SANDBOX_LINE
        return lines if keep_alive else lines + b"Connection: close\r\n"
