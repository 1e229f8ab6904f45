"""A body is read whole, within its limits, or refused; one of the right type is understood."""

import asyncio
import gzip
import threading
import zlib
from contextlib import nullcontext

import msgspec
import pytest
from aiohttp import web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from backports import zstd

from nexus.errors import RequestError
from nexus.proxy.client import body as bodies
from nexus.proxy.client.body import MIN_RATE, receive, understand
from nexus.proxy.headers.from_client import read_head
from nexus.tasks import start
from nexus.testing.builders import CHAT
from nexus.wire.protocols import ENDPOINTS, PROTOCOLS
from nexus.wire.requests.prompt_blocks import Marking

TRANSCRIPTIONS = ENDPOINTS["/v1/audio/transcriptions"]
GENERATE = ENDPOINTS["/api/generate"]
BODY = b'{"model": "llama3", "messages": []}'
FORM = b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper\r\n--b--\r\n'


class Client:
    def __init__(self):
        self.written = b""

    def write(self, data):
        self.written += data


@pytest.fixture
def client():
    return Client()


@pytest.fixture
async def payload(transport):
    loop = asyncio.get_running_loop()
    protocol = BaseProtocol(loop)
    protocol.connection_made(transport)
    return StreamReader(protocol, 2**16, loop=loop)


@pytest.fixture
def read(client, make_message):
    async def read(payload, *headers, length=None, limit=100, deadline_s=5.0):
        head = read_head(make_message(*headers))
        return await receive(payload, head, length, write=client.write, limit=limit, deadline_s=deadline_s)

    return read


@pytest.fixture
def requirements(make_message):
    async def requirements(endpoint, body, content_type, *headers):
        given = [("Content-Type", content_type)] if content_type is not None else []
        head = read_head(make_message(*given, *headers))
        return await understand(PROTOCOLS[endpoint.protocol], endpoint, head, body)

    return requirements


async def test_a_body_that_has_arrived_is_read_at_once(read, payload):
    payload.feed_data(b"hello ")
    payload.feed_data(b"world")
    payload.feed_eof()

    assert await read(payload) == b"hello world"


async def test_a_request_without_a_body_has_an_empty_one(read):
    assert await read(EMPTY_PAYLOAD) == b""


async def test_a_body_that_comes_in_parts_is_waited_for(read, payload):
    reading = start(read(payload), name="reading")

    for part in (b"hel", b"lo"):
        await asyncio.sleep(0)
        payload.feed_data(part)
    await asyncio.sleep(0)
    payload.feed_eof()

    assert await reading == b"hello"


@pytest.mark.parametrize("is_whole", [True, False])
async def test_a_body_that_grows_too_long_is_refused(read, payload, is_whole):
    payload.feed_data(b"x" * 101)
    if is_whole:
        payload.feed_eof()

    with pytest.raises(RequestError) as refused:
        await read(payload)

    assert (refused.value.code, refused.value.close) == ("too_large", True)


async def test_a_body_that_does_not_arrive_is_refused(read, payload):
    with pytest.raises(RequestError) as refused:
        await read(payload, deadline_s=0.01)

    assert (refused.value.code, refused.value.close) == ("request_timeout", True)


async def test_a_trickle_does_not_extend_the_deadline(read, payload):
    async def drip():
        while True:
            payload.feed_data(b"x")
            await asyncio.sleep(0.005)

    dripping = start(drip(), name="drip")

    with pytest.raises(RequestError, match="in time"):
        await asyncio.wait_for(read(payload, deadline_s=0.05), 2)

    dripping.cancel()


async def test_the_size_of_a_body_extends_the_deadline(read, payload):
    payload.feed_data(b"x" * MIN_RATE)
    reading = start(read(payload, limit=MIN_RATE * 2, deadline_s=0.01), name="reading")

    await asyncio.sleep(0.05)
    payload.feed_eof()

    assert len(await reading) == MIN_RATE


@pytest.mark.parametrize("when", ["before", "meanwhile"])
async def test_a_body_that_breaks_its_framing_is_refused(read, payload, when):
    broken = web.RequestPayloadError("bad chunk")
    if when == "before":
        payload.set_exception(broken)
    else:
        asyncio.get_running_loop().call_soon(payload.set_exception, broken)

    with pytest.raises(RequestError) as refused:
        await read(payload)

    assert (refused.value.code, refused.value.close) == ("bad_request", True)


async def test_a_client_that_waits_for_100_continue_gets_it(read, payload, client):
    payload.feed_eof()

    await read(payload, ("Expect", "100-Continue"))

    assert client.written == b"HTTP/1.1 100 Continue\r\n\r\n"


async def test_any_other_expectation_is_refused(read, payload, client):
    with pytest.raises(RequestError) as refused:
        await read(payload, ("Expect", "miracles"))

    assert (refused.value.code, client.written) == ("expectation_failed", b"")


@pytest.mark.parametrize(("length", "code"), [(100, None), (101, "too_large")])
async def test_a_body_announced_too_long_is_refused_before_100_continue(read, payload, client, length, code):
    payload.feed_eof()
    expected = pytest.raises(RequestError) if code else nullcontext()

    with expected as caught:
        await read(payload, ("Expect", "100-continue"), length=length)

    assert (code is None) == (client.written != b"")
    assert caught is None or caught.value.code == code


@pytest.mark.parametrize(
    ("coding", "is_refused"), [("br", True), ("gzip, zstd", True), ("identity", False), ("Identity", False)]
)
@pytest.mark.parametrize(
    ("framing", "length"), [(("Content-Length", "5"), 5), (("Transfer-Encoding", "chunked"), None)]
)
async def test_a_body_of_an_unknown_coding_is_refused(read, payload, coding, is_refused, framing, length):
    payload.feed_data(b"hello")
    payload.feed_eof()

    with pytest.raises(RequestError, match="Content-Encoding") if is_refused else nullcontext():
        await read(payload, ("Content-Encoding", coding), framing, length=length)


@pytest.mark.parametrize(
    ("coding", "compress"),
    [("gzip", gzip.compress), ("X-Gzip", gzip.compress), ("deflate", zlib.compress), ("zstd", zstd.compress)],
)
async def test_a_compressed_body_is_decoded(read, payload, coding, compress):
    # Several parts may follow each other, as if they were one.
    data = compress(b"hello ") + compress(b"you")
    payload.feed_data(data)
    payload.feed_eof()

    assert await read(payload, ("Content-Encoding", coding), length=len(data)) == b"hello you"


async def test_a_body_that_would_be_too_large_is_not_decoded_further(read, payload):
    payload.feed_data(zstd.compress(bytes(10_000_000)))
    payload.feed_eof()

    with pytest.raises(RequestError) as caught:
        await read(payload, ("Content-Encoding", "zstd"), ("Transfer-Encoding", "chunked"), limit=1000)

    assert caught.value.code == "too_large"


@pytest.mark.parametrize("coding", ["gzip", "deflate", "zstd"])
@pytest.mark.parametrize("data", [b"hello", zstd.compress(b"hello")[:-1], gzip.compress(b"hello")[:-1]])
async def test_a_body_that_is_not_what_its_coding_says_is_refused(read, payload, coding, data):
    payload.feed_data(data)
    payload.feed_eof()

    with pytest.raises(RequestError) as caught:
        await read(payload, ("Content-Encoding", coding), length=len(data))

    assert caught.value.code == "bad_request"


async def test_a_window_that_takes_much_memory_is_refused(read, payload):
    options = {zstd.CompressionParameter.window_log: 27, zstd.CompressionParameter.content_size_flag: 0}
    compressor = zstd.ZstdCompressor(options=options)
    payload.feed_data(compressor.compress(b"hello") + compressor.flush())
    payload.feed_eof()

    with pytest.raises(RequestError, match="no valid zstd"):
        await read(payload, ("Content-Encoding", "zstd"), ("Transfer-Encoding", "chunked"))


@pytest.mark.parametrize("length", [None, 0])
async def test_a_coding_of_no_body_means_nothing(read, length):
    assert await read(EMPTY_PAYLOAD, ("Content-Encoding", "gzip"), length=length) == b""


@pytest.mark.parametrize("content_type", ["application/json", "Application/JSON; charset=utf-8", "application/x+json"])
async def test_json_is_read(requirements, content_type):
    assert (await requirements(CHAT, BODY, content_type)).model == "llama3"


async def test_a_form_is_read(requirements):
    assert (await requirements(TRANSCRIPTIONS, FORM, "multipart/form-data; boundary=b")).model == "whisper"


@pytest.mark.parametrize(
    ("endpoint", "content_type"),
    [
        (CHAT, None),
        (CHAT, "text/plain"),
        (CHAT, "application/x-www-form-urlencoded"),
        (CHAT, "multipart/form-data; boundary=b"),
        (TRANSCRIPTIONS, "application/json"),
        (TRANSCRIPTIONS, None),
    ],
)
async def test_another_type_is_refused(requirements, endpoint, content_type):
    with pytest.raises(RequestError) as refused:
        await requirements(endpoint, BODY, content_type)

    assert refused.value.code == "unsupported_media_type"


async def test_the_curl_examples_of_ollama_work(requirements):
    body = b'{"model": "llama3", "prompt": "hi"}'

    assert (await requirements(GENERATE, body, "application/x-www-form-urlencoded")).model == "llama3"


@pytest.mark.parametrize("header", [("Origin", "http://localhost:8000"), ("Sec-Fetch-Site", "none")])
async def test_a_browser_must_declare_json_to_ollama_too(requirements, header):
    with pytest.raises(RequestError, match="Content-Type"):
        await requirements(GENERATE, b"{}", "text/plain", header)


@pytest.mark.parametrize("size", [10, 100])
async def test_a_large_body_is_parsed_in_a_thread(make_message, monkeypatch, size):
    monkeypatch.setattr(bodies, "LARGE_BYTES", 50)
    readers = []
    protocol = msgspec.structs.replace(
        PROTOCOLS["openai"], understand=lambda *_: readers.append(threading.current_thread())
    )

    await understand(protocol, CHAT, read_head(make_message(("Content-Type", "application/json"))), b"x" * size)

    assert (readers[0] is threading.main_thread()) is (size < 50)


async def marked(make_message, endpoint, body, *headers, marked_by=()):
    marking = None if marked_by is None else Marking(marked_by, lambda _model: True)
    head = read_head(make_message(("Content-Type", "application/json"), *headers))
    return await understand(PROTOCOLS[endpoint.protocol], endpoint, head, body, marking=marking)


PROMPT = b'{"model": "llama3", "prompt": "%b"}' % (b"x " * 2500)


@pytest.mark.parametrize("size", [100, 10**6])
async def test_a_prompt_is_hashed_if_a_stage_wants_it(make_message, monkeypatch, size):
    monkeypatch.setattr(bodies, "LARGE_BYTES", size)

    requirements = await marked(make_message, GENERATE, PROMPT, marked_by=[(b"session-id", b"session-id: a\r\n")])

    assert len(requirements.prompt_blocks) == 4
    assert requirements.conversation


async def test_nothing_is_hashed_if_no_stage_wants_it(make_message):
    requirements = await marked(make_message, GENERATE, PROMPT, marked_by=None)

    assert (requirements.prompt_blocks, requirements.conversation) == ((), 0)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/embeddings", b'{"model": "llama3", "input": "%b"}' % (b"x" * 5000)),
        ("/api/embed", b'{"model": "llama3", "input": "%b"}' % (b"x" * 5000)),
        ("/api/generate", b'{"model": "llama3", "system": "%b"}' % (b"x" * 5000)),
    ],
    ids=["embeddings", "embed", "load"],
)
async def test_a_request_that_generates_nothing_is_not_hashed(make_message, path, body):
    requirements = await marked(make_message, ENDPOINTS[path], body)

    assert requirements.prompt_blocks == ()
