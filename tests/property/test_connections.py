"""A request is answered, and reaches the backend, as if nothing else had come on its connection."""

import asyncio
import hashlib
import json
import re
from itertools import pairwise

import pytest
import structlog
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from nexus.simulator import Settings, Simulator
from nexus.testing.fleets import table_of
from nexus.testing.proxy import nexus_in_loop
from tests.support.dialects import CHAT, MODEL
from tests.support.raw_client import RawClient

KEY, ADMIN_KEY = "a-clients-key", "an-admins-key"
CONFIG = f"""
[server]
api_keys = ["sha256:{hashlib.sha256(KEY.encode()).hexdigest()}"]
admin_keys = ["sha256:{hashlib.sha256(ADMIN_KEY.encode()).hexdigest()}"]
allowed_origins = ["https://app.example"]
max_body_bytes = 2000
[timeouts]
body_seconds = 5
[discovery]
enabled = false
"""
WITHIN_S = 10.0
ALLOWED = [HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much]
"""One proxy serves all examples: that none of them changes what the next one sees is what is claimed."""
VARIES = re.compile("date|content-length|.*request-id")
"""Headers that are not the same for two equal requests."""

BODY = CHAT.body(stream=False)
STREAM = CHAT.body(stream=True)
WITH_KEY = f"Authorization: Bearer {KEY}"
WITH_ADMIN_KEY = f"Authorization: Bearer {ADMIN_KEY}"
TRAILERS = (
    WITH_KEY,
    WITH_ADMIN_KEY,
    f"X-Api-Key: {KEY}",
    "Host: evil.example",
    "Origin: https://evil.example",
    "Origin: https://app.example",
    "Content-Encoding: gzip",
    "X-Nexus-Hops: 9",
    "X-Nexus-Strict: true",
    "X-Request-Id: of-another",
    "Connection: close",
    "Expect: 100-continue",
    "X-Plain: 1",
)


def request(method, path, *lines, body=None, chunks=None, trailers=(), version="1.1"):
    """Return the bytes of a request; *chunks*: into how many its body is cut."""
    head = [f"{method} {path} HTTP/{version}", "Host: localhost", *lines]
    if chunks:
        head.append("Transfer-Encoding: chunked")
        size = -(-len(body) // chunks)
        parts = [body[start : start + size] for start in range(0, len(body), size)]
        sent = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
        sent += b"0\r\n" + "".join(f"{line}\r\n" for line in trailers).encode() + b"\r\n"
    elif body is not None:
        head.append(f"Content-Length: {len(body)}")
        sent = body
    else:
        sent = b""
    return "\r\n".join([*head, "", ""]).encode() + sent


def is_head(wire):
    return wire.startswith(b"HEAD ")


def chat(*lines, **options):
    return request("POST", CHAT.path, "Content-Type: application/json", *lines, **{"body": BODY, **options})


keys = st.sampled_from([(), (WITH_KEY,), (WITH_ADMIN_KEY,), (f"X-Api-Key: {KEY}",), ("Authorization: Bearer wrong",)])
extras = st.sampled_from(
    [
        (),
        ("X-Nexus-Strict: true",),
        ("Origin: https://app.example",),
        ("Origin: https://evil.example",),
        ("Expect: 100-continue",),
        ("Content-Encoding: gzip",),
        ("Connection: close",),
        ("Connection: Upgrade", "Upgrade: h2c"),
        ("X-Nexus-Hops: 2",),
        ("X-Request-Id: mine",),
        ("X-Request-Id: mine", "X-Request-Id: yours"),
    ]
)
bodies = st.sampled_from([BODY, STREAM, b"{}", b"", b"no JSON", b"x" * 3000, BODY + b" " * 700])
trailers = st.lists(st.sampled_from(TRAILERS), max_size=3)
requests = st.one_of(
    st.builds(lambda key, extra, body: chat(*key, *extra, body=body), keys, extras, bodies),
    st.builds(
        lambda key, extra, body, chunks, trailers: chat(
            *key, *extra, body=body or BODY, chunks=chunks, trailers=trailers
        ),
        keys,
        extras,
        bodies,
        st.integers(1, 4),
        trailers,
    ),
    st.builds(
        lambda method, path, key: request(method, path, *key),
        st.sampled_from(["GET", "HEAD", "OPTIONS", "DELETE"]),
        st.sampled_from(["/health", "/v1/models", "/v1/models/nothing", "/admin/pipeline", "/nothing", CHAT.path, "*"]),
        keys,
    ),
    st.builds(
        lambda key, chunks, trailers: request(
            "POST", "/v1/route/explain", *key, body=BODY, chunks=chunks, trailers=trailers
        ),
        keys,
        st.integers(1, 2),
        trailers,
    ),
    # Bodies that no answer asks for.
    st.builds(
        lambda method, path, key, body, chunks: request(method, path, *key, body=body, chunks=chunks),
        st.sampled_from(["GET", "HEAD", "DELETE", "POST"]),
        st.sampled_from(["/health", "/nothing", "/v1/models", CHAT.path]),
        keys,
        st.sampled_from([BODY, b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n", b"x" * 300]),
        st.sampled_from([None, 1, 3]),
    ),
    # The same head, but for the path or the query.
    st.builds(
        lambda path, body: request("POST", path, "Content-Type: application/json", WITH_KEY, body=body),
        st.sampled_from(["/v1/completions", f"{CHAT.path}?a=1", f"{CHAT.path}?a=2", "/v1/messages", "/api/chat"]),
        bodies,
    ),
    st.just(chat(WITH_KEY, version="1.0")),
)


class World:
    """A proxy in front of one backend, and what was seen of each request alone."""

    def __init__(self, nexus, backend):
        self.nexus = nexus
        self.backend = backend
        self._alone = {}

    async def alone(self, wire):
        """Return the reply to one request alone, what the backend got, and whether the connection was closed."""
        if wire not in self._alone:
            [reply], asked, is_end = await self.seen([wire], [])
            self._alone[wire] = reply, asked, is_end
        return self._alone[wire]

    async def each_alone(self, wires):
        """Return the same for each of *wires*, up to the first that ends its connection."""
        alone = []
        for wire in wires:
            alone.append(await self.alone(wire))
            if alone[-1][2]:
                break
        return alone

    async def seen(self, wires, cuts):
        """Send *wires* on one connection; return the replies, what the backend got, and whether it was closed then."""
        count = self.asked_count()
        client = await RawClient.connect(self.nexus.port)
        whole = b"".join(wires)
        edges = [0, *sorted({cut % (len(whole) + 1) for cut in cuts}), len(whole)]
        replies, is_end = [], False
        async with asyncio.timeout(WITHIN_S):
            for begin, end in pairwise(edges):
                client.writer.write(whole[begin:end])
                # So that the proxy reads the parts one by one, which is what is varied.
                await asyncio.sleep(0.001)
            for wire in wires:
                reply, is_end = await one_reply(client, is_head(wire))
                replies.append(reply)
                if is_end:
                    assert await client.reader.read() == b""
                    break
        client.leave()
        return replies, self.asked_since(count), is_end

    def asked_count(self):
        return len(self._asked())

    def asked_since(self, count):
        return [told(record.request) for record in self._asked()[count:]]

    def _asked(self):
        return [record for record in self.backend.requests if record.request.header("X-Nexus-Hops")]


def told(asked):
    headers = sorted((name.lower(), value) for name, value in asked.raw_headers if not varies(name.decode()))
    return asked.method, asked.target, headers, asked.body


def varies(name):
    return VARIES.fullmatch(name.lower())


async def one_reply(client, is_head):
    """Return one answer without what is never the same twice, and whether it is the last."""
    interim = 0
    while True:
        status, headers = await client.head()
        if status >= 200:
            break
        interim += 1
    body = b"" if is_head else (await client.rest(headers))[0]
    kept = {name: value for name, value in headers.items() if not varies(name)}
    return (status, interim, kept, meaning(body)), headers.get("connection") == "close"


def meaning(body):
    """Return what is the same in each answer of its kind."""
    try:
        document = json.loads(body)
    except ValueError:
        return body[:5]
    return document.get("error", sorted(document)) if isinstance(document, dict) else document


@pytest.fixture
async def world():
    with structlog.testing.capture_logs():
        async with (
            Simulator(Settings(name="gpu-1", kind="vllm", models=(MODEL,), answer_tokens=2)) as backend,
            nexus_in_loop(CONFIG + table_of(backend)) as nexus,
        ):
            yield World(nexus, backend)


@settings(max_examples=150, deadline=None, suppress_health_check=ALLOWED)
@given(wires=st.lists(requests, min_size=1, max_size=6), cuts=st.lists(st.integers(0, 10_000), max_size=6))
@example(wires=[chat(WITH_KEY, chunks=1, trailers=[WITH_KEY]), chat()], cuts=[])
@example(wires=[chat(WITH_KEY, chunks=1, trailers=[WITH_ADMIN_KEY]), request("GET", "/admin/pipeline")], cuts=[])
@example(wires=[chat(WITH_KEY, chunks=2, trailers=["Host: evil.example"]), chat(WITH_KEY)], cuts=[180])
async def test_a_request_is_answered_as_if_it_had_come_alone(world, wires, cuts):
    alone = await world.each_alone(wires)

    ends_itself = any(said in wires[len(alone) - 1] for said in (b": close", b": Upgrade", b"HTTP/1.0"))
    replies, asked, _ = await world.seen(wires[: len(alone)] if ends_itself else wires, cuts)

    assert replies == [reply for reply, _, _ in alone]
    assert asked == [request for _, requests, _ in alone for request in requests]


@settings(max_examples=60, deadline=None, suppress_health_check=ALLOWED)
@given(
    wires=st.lists(requests.filter(lambda wire: b"close" not in wire), max_size=5),
    cuts=st.lists(st.integers(0, 10_000), max_size=4),
    garbage=st.sampled_from(
        [b"\x00\r\n\r\n", b"GET / HTTP/7\r\n\r\n", b"HEAD /\x01 HTTP/1.1\r\n\r\n", b"HEAD / HTTP/9\r\n"]
    ),
)
async def test_requests_before_a_malformed_one_are_answered(world, wires, cuts, garbage):
    alone = await world.each_alone(wires)
    assume(not any(is_end for _, _, is_end in alone))

    replies, asked, is_end = await world.seen([*wires, garbage], cuts)

    assert replies[:-1] == [reply for reply, _, _ in alone]
    assert asked == [request for _, requests, _ in alone for request in requests]
    assert (replies[-1][0], is_end) == (400, True)
