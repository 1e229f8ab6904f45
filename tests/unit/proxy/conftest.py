"""Both ends of the data path as fakes: a transport, a sink, a scan, a client, and the head of a request."""

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
from nexus.wire.responses.nature import ExpectedFormat
from nexus.wire.streams.event import Event
from nexus.wire.streams.event_buffer import EventTooLargeError
from tests.support.fakes import FakeClient, FakeSink, FakeTransport


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
        asked = ExpectedFormat(is_stream, endpoint.streams_by_default, endpoint.may_be_text)
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
