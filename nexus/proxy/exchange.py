"""One request and its answer, from the client's first byte to the last byte sent back."""

import asyncio
from typing import Final

from aiohttp.http import HttpVersion11, RawRequestMessage
from aiohttp.streams import StreamReader

from nexus.domain.outcome import Ending, Phase
from nexus.domain.request import Endpoint, Requirements
from nexus.errors import RequestError, StageFailed, UpstreamError, UpstreamFault
from nexus.proxy import answering, replies
from nexus.proxy.answer import Answer, Mode
from nexus.proxy.attempt import AUTH_STATUSES, Attempt, error_of
from nexus.proxy.edge import ClientConnection, Sent
from nexus.proxy.headers import request_head
from nexus.proxy.heads import Head
from nexus.proxy.plane import DataPlane
from nexus.proxy.receiving import receive
from nexus.proxy.record import Record
from nexus.proxy.relay import End, StreamRelay
from nexus.proxy.retry import RETRYABLE_STATUS, Next, Retries
from nexus.proxy.understanding import understand
from nexus.routing.decision import Reject, Reserved, Saturated
from nexus.routing.router import Routing
from nexus.wire.protocol import WireProtocol

URGENT: Final = "high"


class Exchange:
    """Carries one request; :meth:`run` reads as its life.

    Whatever happens, at whatever await, :meth:`_settle` runs once: it gives back slot and connection and tells the
    observers how it ended.
    """

    __slots__ = (
        "_attempt",
        "_attempts",
        "_body",
        "_deadline",
        "_endpoint",
        "_head",
        "_is_shut_down",
        "_last_refusal",
        "_loop",
        "_message",
        "_payload",
        "_plane",
        "_protocol",
        "_record",
        "_relay",
        "_requirements",
        "_retries",
        "_routing",
        "_settings",
        "_target",
        "_task",
        "client",
    )

    def __init__(  # noqa: PLR0913 - what one request is
        self,
        plane: DataPlane,
        client: ClientConnection,
        message: RawRequestMessage,
        payload: StreamReader,
        head: Head,
        endpoint: Endpoint,
        protocol: WireProtocol,
        target: bytes,
        request_id: str,
    ) -> None:
        self.client = client
        self._target = target
        self._plane = plane
        self._settings = plane.settings
        self._message = message
        self._payload = payload
        self._head = head
        self._endpoint = endpoint
        self._protocol = protocol
        self._loop = asyncio.get_running_loop()
        self._record = Record(request_id, endpoint, self._loop.time())
        self._body = b""
        self._requirements: Requirements
        self._routing: Routing
        self._retries: Retries
        self._deadline = 0.0
        self._attempts: list[Attempt] = []
        self._attempt: Attempt | None = None
        self._last_refusal: tuple[Attempt, UpstreamError] | None = None
        self._relay: StreamRelay | None = None
        self._task: asyncio.Task[object] | None = None
        self._is_shut_down = False

    async def run(self) -> Sent:
        """Carry the request to its end and say whether the client's connection may be used again."""
        self._plane.in_flight += 1
        self._task = asyncio.current_task()
        try:
            self._body = await self._receive()
            self._requirements = await self._understand()
            self._begin_routing()
            attempt = await self._find_answer()
            return await self._reply(attempt)
        except RequestError as exc:
            return self._refuse(exc)
        except asyncio.CancelledError:
            if not self._is_shut_down:
                self._end(Ending.CLIENT_LEFT, 499)
                raise
            return self._refuse(RequestError("draining", "the proxy is shutting down", retry_after_s=5, close=True))
        except StageFailed as exc:
            return self._refuse(
                RequestError("policy_unavailable", f"stage '{exc.stage}' cannot decide now", retry_after_s=5)
            )
        except Exception as exc:  # noqa: BLE001 - a defect of ours: the client gets an answer, the log the cause
            return self._fail(exc)
        finally:
            self._plane.in_flight -= 1
            self._settle()

    # receive

    async def _receive(self) -> bytes:
        server = self._settings.config.server
        if self._plane.in_flight > server.max_concurrent_requests:
            raise RequestError("overloaded", "too many requests are under way", retry_after_s=1, close=True)
        self._settings.door.check_size(self._head)
        body = await receive(
            self._payload,
            self._head,
            self.client,
            limit=server.max_body_bytes,
            deadline_s=self._settings.config.timeouts.body_seconds,
        )
        self._record.bytes_in = len(body)
        return body

    # understand

    async def _understand(self) -> Requirements:
        self._enter("understand")
        requirements = await understand(self._protocol, self._endpoint, self._head, self._body)
        server = self._settings.config.server
        is_stream = requirements.is_stream
        self._deadline = self._record.began_at + (
            server.stream_timeout_seconds if is_stream else server.request_timeout_seconds
        )
        self._record.understood(requirements)
        return requirements

    # route, queue

    def _begin_routing(self) -> None:
        self._retries = Retries(max_retries=self._settings.config.routing.max_retries, budget=self._plane.budget)
        self._routing = self._settings.router.begin(
            request_id=self._record.request_id,
            endpoint=self._endpoint,
            requirements=self._requirements,
            headers=self._head.hints,
            received_unix_s=self._record.received_unix_s,
        )

    async def _find_answer(self) -> Attempt:
        """Try backends, best first, until one has an answer that may go to the client."""
        while (attempt := await self._next_attempt()) is not None:
            failure = await self._try(attempt)
            if failure is None:
                return attempt
            if failure is Next.GIVE_UP:
                break
        return self._last_word()

    async def _next_attempt(self) -> Attempt | None:
        """Return an attempt that holds its slot; None when somebody has failed and nobody else is left."""
        self._enter("route")
        found = self._routing.next(self._plane.fleet.snapshot)
        if isinstance(found, Saturated):
            found = await self._wait_for_slot(found)
        if isinstance(found, Reject):
            if self._last_refusal is not None:
                return None
            raise answering.rejection(found)
        self._record.routed(found)
        attempt = self._attempt = Attempt(found, self._plane.upstreams.of(found.backend), self._loop.time())
        self._attempts.append(attempt)
        return attempt

    async def _try(self, attempt: Attempt) -> Next | None:
        """Ask one backend, and once more when its connection was stale; None when its answer may go to the client."""
        is_fresh = False
        while True:
            try:
                await self._ask(attempt, is_fresh=is_fresh)
            except UpstreamError as exc:
                now = self._loop.time()
                what = self._retries.after(
                    exc,
                    attempt.backend,
                    now_s=now,
                    left_s=self._deadline - now,
                    wait_s=self._first_byte_s(attempt),
                )
                if what is not Next.SAME_BACKEND_FRESH:
                    self._give_up_attempt(attempt, exc)
                    return what
                attempt.let_go(may_reuse=False)
                is_fresh = True
            else:
                return None

    async def _wait_for_slot(self, saturated: Saturated) -> Reserved:
        queue = self._settings.config.queue
        if not queue.enabled:
            raise RequestError("overloaded", "every backend is at its limit", retry_after_s=1)
        self._enter("queue")
        return await self._plane.line.wait(
            frozenset(backend.name for backend in saturated.backends),
            self._try_now,
            give_back=self._give_back,
            is_urgent=self._head.hints.get("x-nexus-priority", "").strip().lower() == URGENT,
            left_s=self._deadline - self._loop.time(),
        )

    def _try_now(self) -> Reserved | None:
        found = self._routing.next(self._plane.fleet.snapshot)
        if isinstance(found, Reject):
            raise answering.rejection(found)
        return None if isinstance(found, Saturated) else found

    def _give_back(self, reserved: Reserved) -> None:
        """Settle what was handed over in the moment in which the client left."""
        unused = Attempt(reserved, self._plane.upstreams.of(reserved.backend), self._loop.time())
        unused.ending = Ending.CLIENT_LEFT
        self._settle_attempt(unused)

    # send, await the first byte

    async def _ask(self, attempt: Attempt, *, is_fresh: bool) -> None:
        """Send the request and wait until its answer may go to the client.

        :raises UpstreamError: when nothing of the answer may.
        """
        self._enter("send")
        pool = attempt.upstream.pool
        connection = None if is_fresh else pool.take_idle()
        if connection is None:
            connection = await pool.open()
        answer = Answer(
            connection, self._protocol.open_stream(self._endpoint), wants_stream=self._requirements.is_stream
        )
        attempt.begin(connection, answer)
        body = self._body_for(attempt)
        connection.send(self._head_for(attempt, len(body)), body, answer)
        self._enter("await_first_byte")
        wait_s = self._first_byte_s(attempt)
        timer = self._loop.call_at(min(self._loop.time() + wait_s, self._deadline), self._give_up_waiting, answer)
        try:
            await answer.ready
        finally:
            timer.cancel()
        self._judge(attempt, answer)

    def _first_byte_s(self, attempt: Attempt) -> float:
        facts = attempt.backend.facts(attempt.reserved.model)
        own = facts.first_byte_s if facts is not None else None
        return own or self._settings.config.timeouts.first_byte_seconds

    def _give_up_waiting(self, answer: Answer) -> None:
        if not answer.ready.done():
            answer.ready.set_exception(
                UpstreamError(UpstreamFault.FIRST_BYTE_TIMEOUT, "the answer did not begin in time")
            )

    def _body_for(self, attempt: Attempt) -> bytes:
        wanted = attempt.reserved.model
        if wanted == self._requirements.model:
            return self._body
        return answering.renamed(self._endpoint, self._head, self._body, wanted)

    def _head_for(self, attempt: Attempt, body_length: int) -> bytes:
        number = len(self._attempts)
        request_id = self._record.request_id
        return request_head(
            attempt.upstream.stamp,
            self._head,
            self._target,
            body_length=body_length,
            # Engines take it as their own id: two attempts with one id would be one request to them.
            request_id=request_id if number == 1 else f"{request_id}-{number}",
            may_pass_credentials=number == 1 and not self._settings.config.server.api_keys,
        )

    def _judge(self, attempt: Attempt, answer: Answer) -> None:
        if answer.mode is Mode.WHOLE:
            if answer.status in RETRYABLE_STATUS:
                raise UpstreamError(UpstreamFault.STATUS, f"it answered {answer.status}", status=answer.status)
            if answer.status == 404 and answering.names_missing_model(answer.body):
                self._plane.fleet.report_missing_model(attempt.backend.id, attempt.reserved.model)
                raise UpstreamError(UpstreamFault.STATUS, "it does not have the model", status=404)
            answering.refuse_unfinished(self._protocol, self._endpoint, answer)

    def _give_up_attempt(self, attempt: Attempt, exc: UpstreamError) -> None:
        attempt.ending = Ending.BACKEND_FAILED
        attempt.fault = exc.fault.value
        self._last_refusal = attempt, exc
        attempt.let_go(may_reuse=exc.fault is UpstreamFault.STATUS)
        self._settle_attempt(attempt)

    def _last_word(self) -> Attempt:
        """Return the failed attempt whose own error answer may be passed on; raise what is said in its place."""
        if self._last_refusal is None:
            raise RequestError("no_healthy_backend", "no backend could be asked", retry_after_s=5)
        attempt, exc = self._last_refusal
        if exc.status is not None and exc.status not in AUTH_STATUSES and answering.is_presentable(attempt):
            return attempt
        if self._loop.time() >= self._deadline:
            raise RequestError("deadline_exceeded", "the request took longer than it may") from exc
        raise error_of(exc) from exc

    # relay

    async def _reply(self, attempt: Attempt) -> Sent:
        self._enter("relay")
        answer = attempt.answer
        keep_alive = self._may_keep_alive()
        head = answering.head_lines(self._record, attempt, len(self._attempts))
        if answer.mode is Mode.WHOLE:
            return await self._reply_whole(attempt, answer, head, keep_alive=keep_alive)
        return await self._reply_stream(attempt, answer, head, keep_alive=keep_alive)

    async def _reply_whole(self, attempt: Attempt, answer: Answer, head: bytes, *, keep_alive: bool) -> Sent:
        body = answering.restored(answer.body, attempt, self._requirements.model)
        if answer.status >= 400:
            body = answering.redacted(body, attempt.upstream.access.key)
        elif attempt.usage is None:
            attempt.usage = self._protocol.usage_of(body)
        attempt.let_go(may_reuse=True)
        self.client.write(
            b"%bContent-Length: %d\r\n%b\r\n%b"
            % (head, len(body), b"" if keep_alive else b"Connection: close\r\n", body)
        )
        self._record.answered(answer.status, len(body), answer.content_at or answer.first_byte_at)
        if self.client.writing_paused:
            await self.client.drained(self._settings.config.timeouts.write_stall_seconds)
        if attempt.outcome is None:
            attempt.ending = Ending.FINISHED
        self._end(Ending.FINISHED, answer.status)
        return Sent(keep_alive=keep_alive)

    async def _reply_stream(self, attempt: Attempt, answer: Answer, head: bytes, *, keep_alive: bool) -> Sent:
        is_chunked = self._message.version == HttpVersion11
        keep_alive = keep_alive and is_chunked
        framing = b"Transfer-Encoding: chunked\r\n" if is_chunked else b""
        self.client.write(b"%b%b%b\r\n" % (head, framing, b"" if keep_alive else b"Connection: close\r\n"))
        self._record.answered(answer.status, 0, answer.content_at or answer.first_byte_at)
        timeouts = self._settings.config.timeouts
        relay = self._relay = StreamRelay(
            self.client,
            attempt.connection,
            answer,
            is_chunked=is_chunked,
            idle_s=timeouts.stream_idle_seconds,
            first_content_s=self._first_byte_s(attempt),
            stall_s=timeouts.write_stall_seconds,
            deadline=self._deadline,
            restore=answering.restorer(attempt, self._requirements.model),
        )
        relay.start()
        try:
            how = await relay.done
        finally:
            relay.stop()
            self._record.bytes_out = relay.bytes_out
            attempt.usage = answer.scan.usage()
        return self._end_stream(attempt, answer, relay, how, keep_alive=keep_alive)

    def _end_stream(self, attempt: Attempt, answer: Answer, relay: StreamRelay, how: End, *, keep_alive: bool) -> Sent:
        if how is End.COMPLETE and not answer.scan.has_error:
            attempt.ending = Ending.FINISHED
            attempt.let_go(may_reuse=True)
            self._end(Ending.FINISHED, answer.status)
            return Sent(keep_alive=keep_alive)
        attempt.let_go(may_reuse=False)
        if how is End.STALLED_CLIENT:
            attempt.ending = Ending.CLIENT_STALLED
            self._end(Ending.CLIENT_STALLED, answer.status)
        else:
            code = relay.code or "upstream_error"
            attempt.ending = answering.ENDING_OF_CODE.get(code, Ending.BACKEND_FAILED)
            attempt.fault = code if attempt.ending is Ending.BACKEND_FAILED else None
            self._end(attempt.ending, answer.status, code)
        return Sent(keep_alive=keep_alive and how is End.COMPLETE)

    def shut_down(self) -> None:
        """End it now: a stream with an error event, anything else with an error."""
        if self._relay is not None:
            self._relay.cut("server_shutdown")
        elif not self._record.has_answered and self._task is not None:
            self._is_shut_down = True
            self._task.cancel()

    # settle

    def _refuse(self, exc: RequestError) -> Sent:
        keep_alive = self._may_keep_alive() and not exc.close
        lines = b"" if keep_alive or exc.close else b"Connection: close\r\n"
        attempts = len(self._attempts)
        if attempts > 1:
            # The client's library would try again what has just been tried everywhere.
            lines += b"X-Nexus-Attempts: %d\r\nx-should-retry: false\r\n" % attempts
        self.client.write(replies.error(self._protocol, exc, request_id=self._record.request_id, lines=lines))
        self._end(answering.ending_of(exc), exc.status, exc.code)
        return Sent(keep_alive=keep_alive)

    def _fail(self, exc: Exception) -> Sent:
        self._record.crashed(exc)
        self._end(Ending.NEXUS_FAILED, 500, "internal_error")
        if self._record.has_answered:
            if self.client.transport is not None:
                self.client.transport.abort()
        else:
            error = RequestError("internal_error", "a defect of the proxy; its log says more", close=True)
            self.client.write(replies.error(self._protocol, error, request_id=self._record.request_id))
        return Sent(keep_alive=False)

    def _settle(self) -> None:
        attempt = self._attempt
        if attempt is not None and attempt.outcome is None:
            attempt.let_go(may_reuse=False)
            if attempt.ending is Ending.NEXUS_FAILED:
                attempt.ending = self._record.ending
            self._settle_attempt(attempt)
        outcome = self._record.finish(self._loop.time(), tuple(a.outcome for a in self._attempts if a.outcome))
        for observe in self._settings.observers:
            observe(outcome)

    def _settle_attempt(self, attempt: Attempt) -> None:
        outcome = attempt.settle(self._loop.time())
        self._plane.fleet.report(attempt.backend.id, outcome, retry_after_s=answering.retry_after_of(attempt))
        self._plane.line.slot_freed(attempt.backend.name)

    def _enter(self, phase: Phase) -> None:
        self._record.enter(phase, self._loop.time())

    def _end(self, ending: Ending, status: int, code: str | None = None) -> None:
        self._record.ended(ending, status, code)

    def _may_keep_alive(self) -> bool:
        return not self._message.should_close and not self._plane.is_draining
