"""Both ends of the data path, played: a transport, a sink, a scan, a client, and a request's head."""

import asyncio

import pytest
from aiohttp.http import HttpVersion11, RawRequestMessage
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from nexus.config.schema import TimeoutsConfig
from nexus.dialing.upstream_settings import DEFAULT_SETTINGS
from nexus.proxy.dispatch.explained_path import CHAT
from nexus.proxy.exchange.expected_response import ExpectedResponse
from nexus.proxy.upstream.backends import Upstream
from nexus.proxy.upstream.connection import UpstreamConnection
from nexus.routing.decision import Reserved
from nexus.testing.builders import make_backend
from nexus.wire.protocols import PROTOCOLS
from nexus.wire.responses.nature import Asked
from nexus.wire.streams.event import Event
from nexus.wire.streams.event_buffer import EventTooLargeError


class FakeTransport(asyncio.Transport):
    """Takes what is written, and remembers what was asked of it."""

    def __init__(self):
        super().__init__()
        self.written = b""
        self.unsent = 0
        self.is_closed = False
        self.is_aborted = False
        self.is_reading_paused = False

    def write(self, data):
        self.written += data

    def close(self):
        self.is_closed = True

    def abort(self):
        self.is_closed = self.is_aborted = True

    def is_closing(self):
        return self.is_closed

    def get_write_buffer_size(self):
        return self.unsent

    def pause_reading(self):
        self.is_reading_paused = True

    def resume_reading(self):
        self.is_reading_paused = False


class FakeSink:
    """Writes down what an answer was."""

    def __init__(self):
        self.status = 0
        self.headers = []
        self.body = b""
        self.end = None
        self.why = None
        self.pieces = 0
        self.calls = []

    def on_head(self, head):
        self.calls.append("head")
        self.status, self.headers = head.status, head.headers

    def on_body(self, data):
        self.calls.append("body")
        self.body += data

    def on_end(self, *, is_framed):
        self.calls.append("end")
        self.end = "framed" if is_framed else "unframed"

    def on_failed(self, fault, message):
        self.calls.append("failed")
        self.end = fault.value
        self.why = message


class FakeScan:
    """Watches lines: ``:`` begins a comment, ``role`` a lifecycle event, ``error`` an error, ``end`` ends it all."""

    LONGEST = 1000

    def __init__(self):
        self.has_content = False
        self.has_error = False
        self.data_blocks = 0
        self.is_done = False
        self.is_released = False
        self.first = None
        self.rest = b""
        self.last_words = b""

    def feed(self, data):
        lines, newline, self.rest = (self.rest + data).rpartition(b"\n")
        if len(self.rest) > self.LONGEST:
            raise EventTooLargeError
        events = [line for line in lines.split(b"\n") if line and not line.startswith(b":")]
        self.data_blocks += bool(events)
        self.first = self.first or next(iter(events), None)
        self.has_error = self.has_error or any(event.startswith(b"error") for event in events)
        self.is_done = self.is_done or b"end" in events
        self.has_content = self.has_content or any(
            not event.startswith((b"role", b"error", b"end")) for event in events
        )
        return lines + newline

    def show(self, see):
        feed = self.feed

        def feed_and_show(data):
            block = feed(data)
            for line in block.splitlines():
                see(Event(b"", line))
            return block

        self.feed = feed_and_show

    def release(self):
        self.is_released = True

    def is_finished(self):
        return self.is_done

    def closing(self):
        return self.last_words

    def failure(self, code, message):
        return b"failure " + code.encode() + b"\n"

    def first_error(self):
        if self.first is not None and self.first.startswith(b"error"):
            return int(self.first.split()[1]), b'{"error": "of the stream"}'
        return None

    def error_in_rest(self):
        return None

    def usage(self):
        return None


class FakeClient:
    """The client's connection as a relay knows it."""

    def __init__(self):
        self.transport = FakeTransport()
        self.is_gone = False
        self.writing_paused = False
        self.pauses_always = False
        """Whether it stops reading after each write."""
        self.resumed = asyncio.Event()
        self.pause = self.resume = None

    @property
    def connected(self):
        return not self.is_gone

    def write_now(self, data):
        if not self.is_gone:
            self.transport.write(data)
            if data and self.pauses_always:
                self.writing_paused = True

    def write_last(self, data):
        self.write_now(data)

    async def drained(self):
        self.resumed.clear()
        if self.writing_paused:
            await self.resumed.wait()

    def close(self):
        self.transport.close()

    def abort(self):
        self.transport.abort()

    def begin_stream(self, pause, resume, *, is_chunked):
        self.pause, self.resume = pause, resume

    def end_stream(self):
        self.pause = self.resume = None

    def stop_reading(self, unsent):
        self.transport.unsent = unsent
        self.writing_paused = True
        self.pause()

    def read_on(self):
        self.transport.unsent = 0
        self.writing_paused = False
        self.resume()
        self.resumed.set()


@pytest.fixture
def transport():
    return FakeTransport()


@pytest.fixture
def make_transport():
    return FakeTransport


@pytest.fixture
def sink():
    return FakeSink()


@pytest.fixture
def scan():
    return FakeScan()


@pytest.fixture
def ask(scan):
    """A question whose streamed answers are watched by the scan of this test."""

    def ask(is_stream, *, endpoint=CHAT, accept=b"application/json"):
        asked = Asked(is_stream, endpoint.streams_by_default, endpoint.may_be_text)
        return ExpectedResponse(PROTOCOLS[endpoint.protocol], endpoint, asked, lambda: scan, accept)

    return ask


@pytest.fixture
def client():
    return FakeClient()


@pytest.fixture
def make_sink():
    return FakeSink


@pytest.fixture
def connection(transport):
    """A connection to a backend that the test itself plays, by ``data_received`` and ``connection_lost``."""
    connection = UpstreamConnection()
    connection.connection_made(transport)
    return connection


@pytest.fixture
def make_message():
    """The head of a request, as aiohttp's parser gives it."""

    def make(*headers, target="/v1/chat/completions", version=HttpVersion11, host="localhost:8000", method="POST"):
        pairs = [*([("Host", host)] if host is not None else []), *headers]
        return RawRequestMessage(
            method=method,
            path=target,
            version=version,
            headers=CIMultiDictProxy(CIMultiDict(pairs)),
            raw_headers=tuple((name.encode(), value.encode("latin-1")) for name, value in pairs),
            should_close=False,
            compression=None,
            upgrade=False,
            chunked=False,
            url=URL("/"),
        )

    return make


@pytest.fixture
def make_reserved():
    """A backend with a slot reserved for one attempt."""

    def make(backend=None, *, model="llama3", holds=(), fallback_model=None):
        backend = backend or make_backend("gpu-1")
        return Reserved(
            backend=backend,
            model=model,
            holds=holds,
            resolved_model=model,
            fallback_model=fallback_model,
            route_reason="capability-match",
            reason="only_healthy_backend",
        )

    return make


@pytest.fixture
async def make_upstream():
    """A backend as the data plane sees it, with short deadlines."""
    made = []

    def make(backend=None, access=DEFAULT_SETTINGS, **timeouts):
        upstream = Upstream(backend or make_backend("gpu-1"), access, TimeoutsConfig(**timeouts))
        made.append(upstream)
        return upstream

    yield make
    for upstream in made:
        upstream.pool.close()
