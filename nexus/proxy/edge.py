"""The client's side of a connection: aiohttp's server protocol, with the holes closed that it leaves to its users."""

import asyncio
from collections.abc import Callable
from typing import Any, Final, Protocol

import aiohttp.http_parser
import structlog
from aiohttp import web
from aiohttp.http import HttpVersion11, RawRequestMessage
from aiohttp.http_exceptions import LineTooLong
from aiohttp.web_protocol import RequestHandler

from nexus.errors import RequestError, StartError
from nexus.proxy.heads import MAX_HEADERS, HeadMemory

log = structlog.get_logger("nexus.proxy")

MAX_LINE: Final = 8190
PARSER_ALLOWANCE: Final = 2
"""The parser gives up only at this many times a limit: up to there a request is read, and refused in its own words."""
WRITE_BUFFER_BYTES: Final = 64 * 1024
LINGER_S: Final = 2.0


class Sent:
    """Tells aiohttp that the answer has been written, and whether the connection may go on."""

    __slots__ = ("keep_alive",)

    def __init__(self, *, keep_alive: bool) -> None:
        self.keep_alive = keep_alive

    async def prepare(self, request: web.BaseRequest) -> None:
        """Do nothing: the head has been written."""

    async def write_eof(self) -> None:
        """Do nothing: the body has been written."""


class Pausable(Protocol):
    """Who must know when a client does not take any more."""

    def pause(self) -> None: ...

    def resume(self) -> None: ...


class ClientConnection(RequestHandler):
    """One connection of one client."""

    __slots__ = ("_head_timer", "_headers_s", "_on_malformed", "_relay", "_resumed", "heads")

    def __init__(
        self,
        server: "EdgeServer",
        *,
        headers_s: float,
        on_malformed: Callable[["ClientConnection", RequestError], bytes],
        **options: Any,
    ) -> None:
        super().__init__(server, **options)
        self._headers_s = headers_s
        self._on_malformed = on_malformed
        self._head_timer: asyncio.TimerHandle | None = None
        self._relay: Pausable | None = None
        self._resumed: asyncio.Event | None = None
        self.heads = HeadMemory()

    @property
    def remote(self) -> str:
        """The client's address, for logs."""
        peer = self.peername
        return str(peer[0]) if peer else "unknown"

    def attach_relay(self, relay: Pausable | None) -> None:
        """Tell *relay* from now on when the client stops and goes on reading."""
        self._relay = relay

    def write(self, data: bytes) -> None:
        """Write to the client; what goes to a client that has left goes nowhere."""
        transport = self.transport
        if transport is not None and not transport.is_closing():
            transport.write(data)

    def abort(self) -> None:
        """Cut the connection: what has been sent must not look finished."""
        if self.transport is not None:
            self.transport.abort()

    async def drained(self, stall_s: float) -> bool:
        """Wait until the client has taken what was written; one that takes nothing for *stall_s* seconds is cut off.

        Return whether it has taken it.
        """
        while self.writing_paused:
            unsent, resumed = self.unsent, asyncio.Event()
            self._resumed = resumed
            try:
                async with asyncio.timeout(stall_s):
                    await resumed.wait()
            except TimeoutError:
                if self.unsent >= unsent:
                    self.abort()
                    return False
        return True

    @property
    def unsent(self) -> int:
        """How many bytes were written and have not left yet."""
        return self.transport.get_write_buffer_size() if self.transport is not None else 0

    # what the transport says

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)  # type: ignore[attr-defined]
        self._await_head()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._stop_awaiting_head()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._messages or self._request_in_progress:
            self._stop_awaiting_head()
            if self._messages and type(self._messages[-1][0]) is not RawRequestMessage:
                self._break_body()
        elif self._head_timer is None and data:
            self._await_head()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._relay is not None:
            self._relay.pause()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._resumed is not None:
            self._resumed.set()
        if self._relay is not None:
            self._relay.resume()

    def _break_body(self) -> None:
        """Tell whoever waits for a body that its framing is broken: aiohttp leaves it waiting."""
        request = self._current_request
        if request is None:
            return
        payload = request._payload  # noqa: SLF001 - the reader that the exchange has
        if not payload.is_eof():
            payload.set_exception(web.RequestPayloadError())
            # Nothing of it is left to be read and thrown away before the connection is closed.
            payload.feed_eof()

    def _await_head(self) -> None:
        self._head_timer = self._loop.call_later(self._headers_s, self._give_up_head)

    def _stop_awaiting_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _give_up_head(self) -> None:
        self._head_timer = None
        if not self._request_in_progress:
            self.force_close()

    # what aiohttp would say itself, with a traceback and the client's bytes in it

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> Any:
        """Answer what could not be parsed: in JSON, without an echo of it."""
        del request, message
        if status == 500:
            log.error("request_crashed", remote=self.remote, exc_info=exc)
            error = RequestError("internal_error", "a defect of the proxy; its log says more", close=True)
        elif isinstance(exc, LineTooLong):
            error = RequestError("headers_too_large", f"a line of the request may have {MAX_LINE} bytes", close=True)
        else:
            error = RequestError("bad_request", "the request is not well-formed HTTP/1.1", close=True)
        self.write(self._on_malformed(self, error))
        return Sent(keep_alive=False)

    def log_exception(self, *args: Any, **kwargs: Any) -> None:
        log.error("connection_crashed", remote=self.remote, during=str(args[0]), exc_info=kwargs.get("exc_info"))

    def log_debug(self, *args: Any, **kwargs: Any) -> None:
        """Say nothing: a client that leaves is told by its exchange."""


class EdgeServer(web.Server):
    """Makes a :class:`ClientConnection` for every client."""

    def __init__(
        self,
        handler: Callable[[web.BaseRequest], Any],
        *,
        headers_s: float,
        keepalive_s: float,
        on_malformed: Callable[[ClientConnection, RequestError], bytes],
    ) -> None:
        refuse_slow_parser()
        # A client that leaves must stop the GPU that works for it: its handler is cancelled.
        super().__init__(handler, handler_cancellation=True)
        self._options: dict[str, Any] = {
            "access_log": None,
            "keepalive_timeout": keepalive_s,
            "max_line_size": PARSER_ALLOWANCE * MAX_LINE,
            "max_field_size": MAX_LINE,
            "max_headers": PARSER_ALLOWANCE * MAX_HEADERS,
            "lingering_time": LINGER_S,
            "read_bufsize": 2**16,
            "auto_decompress": False,
            "loop": self._loop,
        }
        self._headers_s = headers_s
        self._on_malformed = on_malformed

    def __call__(self) -> ClientConnection:
        return ClientConnection(self, headers_s=self._headers_s, on_malformed=self._on_malformed, **self._options)


def can_stay_open(message: RawRequestMessage) -> bool:
    """Whether another request may follow on the connection that *message* came by.

    Not with HTTP/1.0, whose clients wait for the end unless they are told otherwise in words of their own; not after an
    offer to upgrade, which Nexus never takes up: the parser loses what was sent together with it.
    """
    return not (message.should_close or message.upgrade) and message.version == HttpVersion11


def refuse_slow_parser() -> None:
    """Raise StartError without aiohttp's C parser: most request smuggling holes were in the other one."""
    module = aiohttp.http_parser.HttpRequestParser.__module__
    if module != "aiohttp._http_parser":
        raise StartError(
            "aiohttp runs without its C parser (AIOHTTP_NO_EXTENSIONS?); install a wheel of it that has one"
        )
