"""One request and its answer, from the client's first byte to the last byte sent back."""

import asyncio
from time import monotonic

import msgspec
from aiohttp.http import HttpVersion11, RawRequestMessage

from nexus.domain.outcome import AttemptOutcome, Ending
from nexus.domain.request import Endpoint, Requirements
from nexus.errors import RequestError, StageFailed
from nexus.proxy import answering, replies
from nexus.proxy.answer import Answer, Mode
from nexus.proxy.attempt import Attempt
from nexus.proxy.client import ClientConnection
from nexus.proxy.heads import Head, can_stay_open
from nexus.proxy.inquiry import Inquiry
from nexus.proxy.known_head import Payload
from nexus.proxy.plane import DataPlane, Settings
from nexus.proxy.receiving import receive
from nexus.proxy.record import Record
from nexus.proxy.relay import MESSAGES, End, StreamRelay
from nexus.proxy.understanding import preview, understand
from nexus.wire.protocol import WireProtocol


class Admission(msgspec.Struct, frozen=True):
    """A request that was let in, as far as its head says; it holds for any request with the same one."""

    message: RawRequestMessage
    settings: Settings
    """By which it was let in."""
    head: Head
    endpoint: Endpoint
    protocol: WireProtocol
    target: bytes
    """Path and query."""


class Exchange:
    """Carries one request; :meth:`run` reads as its life.

    Whatever happens, at whatever await, :meth:`_settle` runs once: it gives back slot and connection and tells the
    observers how it ended.
    """

    __slots__ = (
        "_client",
        "_endpoint",
        "_head",
        "_inquiry",
        "_is_shut_down",
        "_message",
        "_payload",
        "_plane",
        "_protocol",
        "_record",
        "_relay",
        "_settings",
        "_target",
    )

    def __init__(
        self, plane: DataPlane, client: ClientConnection, payload: Payload, admission: Admission, request_id: str
    ) -> None:
        self._plane = plane
        self._settings = admission.settings
        self._client = client
        self._message = admission.message
        self._payload = payload
        self._head = admission.head
        self._endpoint = admission.endpoint
        self._protocol = admission.protocol
        self._target = admission.target
        self._record = Record(request_id, admission.endpoint)
        if plane.tracer is not None:
            self._record.trace = plane.tracer.begin(admission.head.forward)
        self._inquiry: Inquiry | None = None
        self._relay: StreamRelay | None = None
        self._is_shut_down = False

    async def run(self) -> bool:
        """Carry the request to its end and say whether the client's connection may be used again."""
        self._plane.in_flight += 1
        try:
            body = await self._receive()
            self._record.enter("understand")
            requirements = await understand(self._protocol, self._endpoint, self._head, body)
            self._record.understood(requirements)
            if self._settings.config.logging.enable_content_logging:
                self._record.prompt_preview = await preview(self._endpoint, self._head, body)
            inquiry = self._inquiry = self._inquire(body, requirements)
            attempt = await inquiry.find_answer()
            self._record.enter("relay")
            if attempt.answer.mode is not Mode.WHOLE:
                return await self._reply_stream(inquiry, attempt, requirements)
            keep_alive = self._reply_whole(attempt, requirements)
            return (not self._client.writing_paused or await self._is_taken(attempt.answer.status)) and keep_alive
        except RequestError as exc:
            return self._refuse(exc)
        except StageFailed as exc:
            stage = f"stage '{exc.stage}' cannot decide now"
            return self._refuse(RequestError("policy_unavailable", stage, retry_after_s=5))
        except asyncio.CancelledError:
            if not self._is_shut_down:
                self._record.ended(Ending.CLIENT_LEFT, 499)
                raise
            return self._refuse(RequestError("draining", "the proxy is shutting down", retry_after_s=5, close=True))
        except Exception as exc:  # noqa: BLE001 - a defect of ours: the client gets an answer, the log the cause
            return self._fail(exc)
        finally:
            self._plane.in_flight -= 1
            self._settle()

    def shut_down(self) -> None:
        """End it now: a stream with an error event, anything else with an error."""
        if self._relay is not None:
            self._relay.cut("server_shutdown")
        elif not self._record.has_answered:
            self._is_shut_down = True
            self._client.task.cancel()

    # receive

    async def _receive(self) -> bytes:
        server = self._settings.config.server
        if self._plane.in_flight > server.max_concurrent_requests:
            raise RequestError("overloaded", "too many requests are under way", retry_after_s=1, close=True)
        self._settings.door.check_size(self._head)
        body = await receive(
            self._payload,
            self._head,
            self._client,
            limit=server.max_body_bytes,
            deadline_s=self._settings.config.timeouts.body_seconds,
        )
        self._record.bytes_in = len(body)
        return body

    # understand, route, queue, send, await the first byte

    def _inquire(self, body: bytes, requirements: Requirements) -> Inquiry:
        return Inquiry(
            self._plane,
            self._settings,
            self._record,
            endpoint=self._endpoint,
            protocol=self._protocol,
            head=self._head,
            target=self._target,
            body=body,
            requirements=requirements,
        )

    # relay

    def _reply_whole(self, attempt: Attempt, requirements: Requirements) -> bool:
        answer = attempt.answer
        body = answering.restored(answer.body, attempt, requirements.model)
        if answer.status >= 400:
            body = answering.redacted(body, attempt.upstream.access.key)
        else:
            attempt.usage = self._protocol.usage_of(body)
            if attempt.usage is None and attempt.listener is not None:
                attempt.listener(self._protocol.text_of(body))
        head = answering.head_lines(self._record, attempt, self._attempt_count())
        attempt.let_go(may_reuse=True)
        keep_alive = self._may_keep_alive()
        last_lines = self._last_lines(keep_alive=keep_alive)
        self._client.write(b"%bContent-Length: %d\r\n%b\r\n%b" % (head, len(body), last_lines, body))
        self._record.answered(answer.status, answer.first_byte_at)
        self._record.bytes_out = len(body)
        self._record.ended(Ending.FINISHED, answer.status)
        return keep_alive

    async def _is_taken(self, status: int) -> bool:
        """Wait until the client has taken a whole answer; False when it does not."""
        is_taken = await self._client.drained(self._settings.config.timeouts.write_stall_seconds)
        if not is_taken:
            self._record.ended(Ending.CLIENT_STALLED, status)
        return is_taken

    async def _reply_stream(self, inquiry: Inquiry, attempt: Attempt, requirements: Requirements) -> bool:
        answer = attempt.answer
        is_chunked = self._message.version == HttpVersion11
        keep_alive = self._may_keep_alive() and is_chunked
        self._client.write(
            b"%b%b%b\r\n"
            % (
                answering.head_lines(self._record, attempt, self._attempt_count()),
                b"Transfer-Encoding: chunked\r\n" if is_chunked else b"",
                self._last_lines(keep_alive=keep_alive),
            )
        )
        self._record.answered(answer.status, answer.begun_at)
        timeouts = self._settings.config.timeouts
        relay = self._relay = StreamRelay(
            self._client,
            attempt.connection,
            answer,
            is_chunked=is_chunked,
            idle_s=timeouts.stream_idle_seconds,
            first_content_s=inquiry.first_byte_s(attempt),
            stall_s=timeouts.write_stall_seconds,
            deadline=inquiry.deadline,
            restore=answering.restorer(attempt, requirements.model),
        )
        relay.start()
        try:
            how = await relay.end()
        finally:
            relay.stop()
            self._record.bytes_out = relay.bytes_out
            self._record.begun(answer.begun_at)
            attempt.usage = answer.scan.usage()
        self._end_stream(attempt, answer, relay, how)
        return keep_alive and how is End.COMPLETE

    def _end_stream(self, attempt: Attempt, answer: Answer, relay: StreamRelay, how: End) -> None:
        if how is End.COMPLETE and not answer.scan.has_error:
            attempt.let_go(may_reuse=True)
            self._record.ended(Ending.FINISHED, answer.status)
            return
        attempt.let_go(may_reuse=False)
        if how is End.STALLED_CLIENT:
            self._record.ended(Ending.CLIENT_STALLED, answer.status)
            return
        code = relay.code or "upstream_error"
        ending = answering.ENDING_OF_CODE.get(code, Ending.BACKEND_FAILED)
        attempt.fault = code if ending is Ending.BACKEND_FAILED else None
        self._record.ended(ending, answer.status, code, MESSAGES.get(code))

    # settle

    def _refuse(self, exc: RequestError) -> bool:
        keep_alive = self._may_keep_alive() and not exc.close
        lines = self._record.decision_line + self._last_lines(keep_alive=keep_alive or exc.close)
        attempts = self._attempt_count()
        if attempts > 1:
            # The client's library would try again what has just been tried everywhere.
            lines += b"X-Nexus-Attempts: %d\r\nx-should-retry: false\r\n" % attempts
        self._client.write(replies.error(self._protocol, exc, request_id=self._record.request_id, lines=lines))
        self._record.ended(answering.ending_of(exc), exc.status, exc.code, exc.message)
        return keep_alive

    def _fail(self, exc: Exception) -> bool:
        self._record.crashed(exc)
        if self._record.has_answered:
            self._client.abort()
        else:
            error = RequestError("internal_error", "a defect of the proxy; its log says more", close=True)
            lines = self._record.decision_line + self._head.cors_lines
            self._client.write(replies.error(self._protocol, error, request_id=self._record.request_id, lines=lines))
        self._record.ended(Ending.NEXUS_FAILED, 500, "internal_error", "a defect of the proxy; its log says more")
        return False

    def _settle(self) -> None:
        outcomes: tuple[AttemptOutcome, ...] = ()
        trace = self._record.trace
        settling_since = monotonic() if trace is not None else 0.0
        if self._inquiry is not None:
            outcomes = self._inquiry.settle_all(self._record.ending)
        outcome = self._record.finish(outcomes)
        if self._inquiry is not None:
            self._inquiry.decision.outcome = outcome
        for observe in self._settings.observers:
            observe(outcome)
        if trace is not None:
            trace.end(outcome, self._record.phases, settling_since)

    def _attempt_count(self) -> int:
        return len(self._inquiry.attempts) if self._inquiry is not None else 0

    def _may_keep_alive(self) -> bool:
        return can_stay_open(self._message) and not self._plane.is_draining

    def _last_lines(self, *, keep_alive: bool) -> bytes:
        cors_lines = self._head.cors_lines
        return cors_lines if keep_alive else cors_lines + b"Connection: close\r\n"
