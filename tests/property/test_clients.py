"""However a client's bytes are cut, its heads repeat and it leaves: its requests are those that it has sent."""

import asyncio
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from nexus.errors import RequestError
from nexus.proxy.client.body import receive
from nexus.proxy.client.connection import ClientConnection
from nexus.proxy.client.server import ProxyServer
from nexus.proxy.headers.from_client import can_stay_open, read_head
from tests.support.fakes import FakeTransport

thoroughly = settings(max_examples=300, deadline=None)

HEADS = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\nX-Last: 1\r\n\r\n",
    b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length:%d\r\nHost: a\r\n\r\n",
    b"POST /v1/embeddings HTTP/1.1\r\nHost: a\r\nX-Like: Content-Length: 7\r\nContent-Length:  %d\r\n\r\n",
    b"POST /v1/embeddings HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\nConnection: close\r\n\r\n",
)
CHUNKED = b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
PLAIN = b"GET /v1/models HTTP/1.1\r\nHost: a\r\n\r\n"


def with_length(head, body):
    return head % len(body) + body


def chunked(body):
    return CHUNKED + (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + b"0\r\n\r\n"


bodies = st.one_of(
    st.binary(max_size=30),
    st.sampled_from([b"", b"\r\n\r\n", PLAIN, HEADS[0] % 3, b"x" * 300]),
)
requests = st.one_of(
    # Mostly the same head again and again, as of a client's library.
    st.tuples(st.just(HEADS[0]), bodies).map(lambda pair: (with_length(*pair), pair[1])),
    st.tuples(st.sampled_from(HEADS[:3]), bodies).map(lambda pair: (with_length(*pair), pair[1])),
    bodies.map(lambda body: (chunked(body), body)),
    st.just((PLAIN, b"")),
)


class Socket:
    family = None

    def setsockopt(self, *option):
        pass

    def fileno(self):
        return -1


class Handler:
    """Writes down every request that it is given."""

    def __init__(self):
        self.seen = []

    async def serve(self, client, received):
        message, payload, length = received
        head = read_head(message)
        try:
            body = await receive(payload, head, length, write=client.write, limit=10_000, deadline_s=5)
        except RequestError as exc:
            self.seen.append(exc.code)
            return False
        headers = [pair for pair in message.raw_headers if pair[0].lower() != b"content-length"]
        self.seen.append((message.method, message.path, headers, length, body))
        return can_stay_open(message)

    def note_abandoned(self, client, abandoned):
        raise AssertionError("it leaves once all is served")

    def refuse_malformed(self, client, exc, is_head):
        self.seen.append(exc.code)
        return b""


async def seen_of(pieces):
    server, handler = ProxyServer(headers_s=5, keepalive_s=5, write_stall_s=5), Handler()
    server.handle, server.refuse_malformed = handler.serve, handler.refuse_malformed
    server.note_abandoned = handler.note_abandoned
    client = ClientConnection(server)
    transport = FakeTransport({"socket": Socket()})
    client.connection_made(transport)
    for piece in pieces:
        if not transport.is_closed:
            client.data_received(piece)
        await asyncio.sleep(0)
    for _ in range(200):
        await asyncio.sleep(0)
    client.connection_lost(None)
    await asyncio.gather(client.task, return_exceptions=True)
    return handler.seen


def cut(data, at):
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in at)})
    return [data[start:stop] for start, stop in pairwise(edges)]


cuts = st.lists(st.integers(0, 4000), max_size=12)


@thoroughly
@given(asked=st.lists(requests, max_size=8), at=cuts, at_requests=st.booleans())
async def test_requests_are_those_that_were_sent(asked, at, at_requests):
    whole = b"".join(wire for wire, _ in asked)
    pieces = [piece for wire, _ in asked for piece in cut(wire, at)] if at_requests else cut(whole, at)

    seen = await seen_of(pieces)

    assert [request[-1] for request in seen] == [body for _, body in asked]
    assert seen == await seen_of([wire for wire, _ in asked])


@thoroughly
@given(count=st.integers(0, 150), at=st.lists(st.integers(0, 8000), max_size=20), is_broken=st.booleans())
async def test_a_pipeline_of_any_length_is_read_to_its_end(count, at, is_broken):
    whole = PLAIN * count + (b"\0" if is_broken else b"")

    seen = await seen_of(cut(whole, at))

    assert [request[0] for request in seen[:count]] == ["GET"] * count
    assert seen[count:] == (["bad_request"] if is_broken else [])


@thoroughly
@given(
    parts=st.lists(
        st.one_of(
            requests.map(lambda request: request[0]),
            st.tuples(st.sampled_from(HEADS), bodies, st.integers(-3, 3)).map(
                lambda lie: lie[0] % max(0, len(lie[1]) + lie[2]) + lie[1]
            ),
            st.sampled_from([b"\r\n", b"\n", b"0", b"Content-Length: 0\r\n", b"\x00", HEADS[0][:40]]),
            st.binary(max_size=8),
        ),
        max_size=6,
    ),
    at=cuts,
)
async def test_whatever_is_sent_is_read_the_same_however_it_is_cut(parts, at):
    pieces = cut(b"".join(parts), at)

    assert await seen_of(pieces) == await seen_of([b"".join(parts)])


async def test_a_body_that_comes_in_pieces_pauses_who_sends_too_much_of_it():
    data = b"x" * 1_000_000
    pieces = [with_length(HEADS[0], b""), HEADS[0] % len(data), *cut(data, range(0, len(data), 50_000)), PLAIN]

    seen = await seen_of(pieces)

    assert [len(request[-1]) if isinstance(request, tuple) else request for request in seen] == [0, "too_large"]


class SlowHandler:
    """Takes some turns of the event loop for each request, and writes down which have begun or were abandoned."""

    def __init__(self, turns):
        self.turns = turns
        self.noted = []

    async def serve(self, client, received):
        self.noted.append(received.message.path)
        for _ in range(self.turns):
            await asyncio.sleep(0)
        client.write(b"x")
        return True

    def note_abandoned(self, client, abandoned):
        self.noted += [received.message.path for received in abandoned]


@thoroughly
@given(
    count=st.integers(1, 6), streams=st.integers(0, 9), slowness=st.integers(0, 3), at=cuts, leaves_after=st.integers(0)
)
async def test_each_request_that_was_read_begins_or_is_abandoned_once(count, streams, slowness, at, leaves_after):
    server, handler = ProxyServer(headers_s=5, keepalive_s=5, write_stall_s=5), SlowHandler(slowness)
    server.handle, server.note_abandoned = handler.serve, handler.note_abandoned
    # While clients are being sent streams, requests wait for a turn to begin.
    server.starts.streams = streams
    client = ClientConnection(server)
    client.connection_made(FakeTransport({"socket": Socket()}))
    pieces = cut(b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number for number in range(count)), at)
    sent = b""
    for piece in pieces[: leaves_after % (len(pieces) + 1)]:
        client.data_received(piece)
        sent += piece
        if leaves_after % 2:
            await asyncio.sleep(0)
    client.connection_lost(None)
    await asyncio.gather(client.task, return_exceptions=True)

    assert handler.noted == [f"/{number}" for number in range(sent.count(b"\r\n\r\n"))]
