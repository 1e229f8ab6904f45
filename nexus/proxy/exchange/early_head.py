"""Begins the reply of a stream while its backend is loading the model, and shows the client that it is.

Without it, a client and all that lies between see a silent connection for minutes, and give up. The price is that the
status is 200 from then on: a later failure is an error event.
"""

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, Final

from aiohttp.http import HttpVersion11
from msgspec.structs import replace

from nexus.errors import RequestError
from nexus.proxy.exchange.reply_head import reply_head
from nexus.proxy.upstream.response_parser import ResponseHead
from nexus.wire.errors.presentable import presentable

if TYPE_CHECKING:
    from nexus.proxy.client.connection import ClientConnection
    from nexus.proxy.exchange.attempt import Attempt
    from nexus.proxy.exchange.failover import Failover
    from nexus.proxy.exchange.response import Response

COMMENT_S: Final = 5.0
"""The time between two comments; proxies in front cut off a connection that is silent for 30 or 60 seconds."""
MAX_TOLD_BYTES: Final = 500
"""Of the answer of a backend that is quoted in an error."""
SSE: Final = "text/event-stream"
"""The only kind of stream in which a comment is legal: each line of Ollama's is a JSON document."""
HEADERS: Final = [(b"Content-Type", b"text/event-stream; charset=utf-8"), (b"Cache-Control", b"no-cache")]


class EarlyHead:
    """The reply of one exchange before its backend has answered; it writes nothing unless a load takes long."""

    __slots__ = (
        "_after_s",
        "_attempt",
        "_client",
        "_failover",
        "_timer",
        "bytes_out",
        "has_begun",
        "is_chunked",
        "keep_alive",
    )

    def __init__(self, client: "ClientConnection", failover: "Failover") -> None:
        message = failover.request.message
        self._client = client
        self._failover = failover
        self._attempt: Attempt | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._after_s = failover.settings.config.timeouts.loading_comments_after_seconds
        self.is_chunked = message.version == HttpVersion11
        self.keep_alive = client.may_follow(message) and self.is_chunked
        """Whether the client's connection may be used again; the head says so."""
        self.has_begun = False
        self.bytes_out = 0
        """The bytes of comments and events that were written to the client."""

    def watch(self, attempt: "Attempt") -> None:
        """Begin the reply if the load that *attempt* waits for takes too long."""
        self._attempt = attempt
        request = self._failover.request
        # A picture or a voice may be streamed as its bytes, which cannot follow comments.
        is_of_events = request.protocol.stream_type == SSE and request.endpoint.capability == "chat"
        if (
            attempt.wants_stream
            and is_of_events
            and self._after_s
            and self._timer is None
            and attempt.loading_s(monotonic()) is not None
        ):
            self._timer = self._failover.plane.loop.call_later(self._after_s, self._show)

    def stop(self) -> None:
        """Write no more comments: an answer has been found, or none will be."""
        if self._timer is not None:
            self._timer.cancel()
        self._attempt = None

    def fail(self, error: RequestError) -> None:
        """End the reply with an error event in the client's protocol, and so that it never looks complete."""
        self.stop()
        request = self._failover.request
        self._write(request.protocol.open_stream(request.endpoint).failure(error.code, error.message))
        self._client.close()

    def _show(self) -> None:
        """Write a comment, after the head if that is not written yet, and wait for the next."""
        attempt = self._attempt
        if attempt is None:
            return
        self._timer = self._failover.plane.loop.call_later(COMMENT_S, self._show)
        if not self.has_begun:
            if attempt.load is None or attempt.load.took_s is not None or attempt.response.ready.done():
                # The load is over, so that content will come soon, or another backend is asked.
                return
            self._begin(attempt)
        if not self._client.writing_paused:
            self._write(_comment(attempt))

    def _begin(self, attempt: "Attempt") -> None:
        failover = self._failover
        record = failover.record
        announced = replace(attempt.response, head=ResponseHead(200, HEADERS), status=200, mode="events")
        lines = failover.request.head.cors_lines + (b"" if self.keep_alive else b"Connection: close\r\n")
        self._client.write(
            b"%b%b%b\r\n"
            % (
                reply_head(record, attempt, announced, len(failover.attempts)),
                b"Transfer-Encoding: chunked\r\n" if self.is_chunked else b"",
                lines,
            )
        )
        self.has_begun = True
        # The pieces are chunks from now on, which shows whether a client that has sent FIN still reads.
        self._client.begin_stream(_go_on, _go_on, is_chunked=self.is_chunked)
        record.answered(200, None)
        failover.plane.early_heads += 1

    def _write(self, data: bytes) -> None:
        self.bytes_out += len(data)
        self._client.write_now(b"%x\r\n%b\r\n" % (len(data), data) if self.is_chunked else data)


def _go_on() -> None:
    """Comments are not written while the client takes nothing; there is nothing else to pause."""


def _comment(attempt: "Attempt") -> bytes:
    loading_s = attempt.loading_s(monotonic())
    if attempt.outcome is not None or attempt.load is None or attempt.load.took_s is not None or loading_s is None:
        text = "waiting for the answer"
    else:
        text = f"loading {attempt.reserved.model} on {attempt.backend.name}, {loading_s:.0f} s so far"
    return b": %b\n\n" % presentable(text).encode(errors="replace")


def unfit_answer(response: "Response") -> RequestError:
    """Return the error in place of a whole answer, which cannot follow the head of a stream."""
    told = presentable(response.body[:MAX_TOLD_BYTES].decode(errors="replace")) if response.mode == "whole" else ""
    text = f"the backend answered with status {response.status} instead of a stream, after its model was loaded"
    return RequestError("bad_gateway", f"{text}: {told}" if told else text)
