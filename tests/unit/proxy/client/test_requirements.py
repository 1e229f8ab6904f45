"""A body is understood when it is of the right type, wherever that is done."""

import threading

import msgspec
import pytest

from nexus.errors import RequestError
from nexus.proxy.client import requirements as understanding
from nexus.proxy.client.requirements import understand
from nexus.proxy.headers.from_client import read_head
from nexus.testing.builders import CHAT
from nexus.wire.protocols import ENDPOINTS, PROTOCOLS

TRANSCRIPTIONS = ENDPOINTS["/v1/audio/transcriptions"]
GENERATE = ENDPOINTS["/api/generate"]
BODY = b'{"model": "llama3", "messages": []}'
FORM = b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper\r\n--b--\r\n'


@pytest.fixture
def read(make_message):
    async def read(endpoint, body, content_type, *headers):
        given = [("Content-Type", content_type)] if content_type is not None else []
        head = read_head(make_message(*given, *headers))
        return await understand(PROTOCOLS[endpoint.protocol], endpoint, head, body)

    return read


@pytest.mark.parametrize("content_type", ["application/json", "Application/JSON; charset=utf-8", "application/x+json"])
async def test_json_is_read(read, content_type):
    assert (await read(CHAT, BODY, content_type)).model == "llama3"


async def test_a_form_is_read(read):
    assert (await read(TRANSCRIPTIONS, FORM, "multipart/form-data; boundary=b")).model == "whisper"


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
async def test_another_type_is_refused(read, endpoint, content_type):
    with pytest.raises(RequestError) as refused:
        await read(endpoint, BODY, content_type)

    assert refused.value.code == "unsupported_media_type"


async def test_what_the_documentation_of_ollama_shows_works(read):
    body = b'{"model": "llama3", "prompt": "hi"}'

    assert (await read(GENERATE, body, "application/x-www-form-urlencoded")).model == "llama3"


@pytest.mark.parametrize("header", [("Origin", "http://localhost:8000"), ("Sec-Fetch-Site", "none")])
async def test_but_not_from_a_browser(read, header):
    with pytest.raises(RequestError, match="Content-Type"):
        await read(GENERATE, b"{}", "text/plain", header)


@pytest.mark.parametrize("size", [10, 100])
async def test_a_large_body_is_read_beside_the_loop(make_message, monkeypatch, size):
    monkeypatch.setattr(understanding, "LARGE_BYTES", 50)
    readers = []
    protocol = msgspec.structs.replace(
        PROTOCOLS["openai"], understand=lambda *_: readers.append(threading.current_thread())
    )

    await understand(protocol, CHAT, read_head(make_message(("Content-Type", "application/json"))), b"x" * size)

    assert (readers[0] is threading.main_thread()) is (size < 50)
