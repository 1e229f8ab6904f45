"""Backends that play scripted responses into the sinks of their requests, without sockets."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, cast

from nexus.config.schema import TimeoutsConfig
from nexus.dialing.upstream_settings import DEFAULT_SETTINGS, UpstreamSettings
from nexus.domain.backend import Backend
from nexus.error_codes import UpstreamFault
from nexus.errors import UpstreamError
from nexus.proxy.upstream.backends import Upstream
from nexus.proxy.upstream.connection import BodySink, ResponseSink
from nexus.proxy.upstream.response_parser import ResponseHead

JSON: Final = (b"Content-Type", b"application/json")
EVENTS: Final = (b"Content-Type", b"text/event-stream")
CHAT_REQUEST: Final = b'{"model": "llama3", "messages": [{"role": "user", "content": "hi"}]}'
STREAM_REQUEST: Final = CHAT_REQUEST[:-1] + b', "stream": true}'
ANSWER: Final = (
    b'{"id": "c-1", "model": "llama3", "choices": [{"message": {"role": "assistant", "content": "Hello"}}],'
    b' "usage": {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}}'
)
HELLO: Final = b'data: {"id": "c-1", "model": "llama3", "choices": [{"index": 0, "delta": {"content": "Hello"}}]}\n\n'
DONE: Final = b"data: [DONE]\n\n"

Step = Callable[[ResponseSink], None]
"""One part of a response, as a connection to a backend delivers it."""
Script = tuple[Step, ...] | UpstreamError | None
"""A whole response, or its beginning; an error: no connection is made; None: dialling takes forever."""


def whole(body: bytes = ANSWER, status: int = 200, *headers: tuple[bytes, bytes]) -> Script:
    """A complete JSON document."""
    head = ResponseHead(status, [JSON, *headers])
    return (lambda sink: sink.on_head(head), lambda sink: sink.on_body(body), end)


def stream(*events: bytes) -> tuple[Step, ...]:
    """The beginning of a stream, or with :func:`end` as a further step all of it."""
    head = ResponseHead(200, [EVENTS])
    return (lambda sink: sink.on_head(head), *(lambda sink, data=data: sink.on_body(data) for data in events))


def end(sink: ResponseSink) -> None:
    sink.on_end(is_framed=True)


def broken(fault: UpstreamFault) -> Script:
    """A connection that fails before the response."""
    return (lambda sink: sink.on_failed(fault, "for the test"),)


SILENT: Final[Script] = ()
"""A backend that takes the request and sends nothing."""


class FakeConnection:
    """A connection to a backend that plays one response, and notes how the connection ended."""

    def __init__(self, script: tuple[Step, ...]) -> None:
        self.script = script
        self.head = b""
        self.body = b""
        self.sink: ResponseSink | None = None
        self.is_reading = True
        self.ends: list[str] = []
        """``kept``, ``closed`` or ``abandoned``: each connection must end exactly once."""

    def send(self, head: bytes, body: bytes, sink: ResponseSink) -> None:
        self.head, self.body, self.sink = head, body, sink
        asyncio.get_running_loop().call_soon(self.play, *self.script)

    def play(self, *steps: Step) -> None:
        """Deliver *steps*, as long as the response is wanted."""
        for step in steps:
            if self.sink is not None:
                step(self.sink)

    def abandon(self) -> None:
        if self.sink is not None:
            self.sink = None
            self.ends.append("abandoned")

    def give_back(self, *, may_reuse: bool) -> None:
        self.sink = None
        self.ends.append("kept" if may_reuse else "closed")

    def pass_to(self, sink: BodySink) -> None:
        self.sink = cast("ResponseSink", sink)

    def pause_reading(self) -> None:
        self.is_reading = False

    def resume_reading(self) -> None:
        self.is_reading = True

    def wakes(self) -> None:
        pass


class FakePool:
    """Hands out a connection for each script, in turn."""

    def __init__(
        self, scripts: Iterable[Script], idle: Iterable[tuple[Step, ...]], on_lent: Callable[[], object]
    ) -> None:
        self._on_lent = on_lent
        self.scripts = deque(scripts)
        self.idle = deque(idle)
        self.lent: list[FakeConnection] = []

    def take_idle(self) -> FakeConnection | None:
        return self._lend(self.idle.popleft()) if self.idle else None

    async def open(self) -> FakeConnection:
        script = self.scripts.popleft()
        if isinstance(script, UpstreamError):
            raise script
        if script is None:
            await asyncio.Event().wait()
        return self._lend(script or ())

    def give_back(self, connection: FakeConnection, *, may_reuse: bool) -> None:
        connection.give_back(may_reuse=may_reuse)

    def close(self) -> None:
        pass

    def _lend(self, script: tuple[Step, ...]) -> FakeConnection:
        self._on_lent()
        self.lent.append(FakeConnection(script))
        return self.lent[-1]


class FakeUpstreams:
    """Real upstreams whose connections are fake."""

    def __init__(self) -> None:
        self.access: dict[str, UpstreamSettings] = {}
        self.pools: dict[str, FakePool] = {}

    def of(self, backend: Backend) -> Upstream:
        upstream = Upstream(backend, self.access.get(backend.name, DEFAULT_SETTINGS), TimeoutsConfig())
        upstream.pool = self.pools[backend.name]  # type: ignore[assignment]
        return upstream
