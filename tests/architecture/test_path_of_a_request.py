"""One warm request passes through few files and few calls: its story can be read."""

import asyncio
import sys
from collections import Counter
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import structlog

from nexus.testing.proxy import nexus_in_loop
from tests.support.bookkeeping import wait_until_nothing_is_held

MAX_FILES = 53
MAX_CALLS = 215

CONFIG = """
[discovery]
enabled = false

[logging]
level = "info"

[health_check]
interval_seconds = 3600

[plugin_loading]
disabled = ["affinity", "budget", "kubernetes", "privacy", "quality", "redis", "tier"]

[[backends]]
name = "gpu"
url = "http://127.0.0.1:{port}"
type = "vllm"
"""

MODELS = b'{"object":"list","data":[{"id":"tiny","object":"model","max_model_len":4096}]}'
ANSWER = (
    b'{"id":"c-1","object":"chat.completion","model":"tiny","choices":[{"index":0,"finish_reason":"stop",'
    b'"message":{"role":"assistant","content":"Hello."}}],'
    b'"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11}}'
)
HEAD = b"HTTP/1.1 200 OK\r\nDate: Mon, 02 Mar 2026 10:00:00 GMT\r\nContent-Type: application/json\r\n"


@pytest.fixture(autouse=True)
def _log():
    """Forget how other tests have configured the log, on which the number of calls depends."""
    structlog.reset_defaults()


@pytest.fixture
async def backend():
    """A vLLM that answers everything at once, with the head that uvicorn sends."""

    async def serve(reader, writer):
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                _, _, rest = head.lower().partition(b"content-length: ")
                if rest:
                    await reader.readexactly(int(rest.split(b"\r\n")[0]))
                body = MODELS if b"/v1/models" in head else ANSWER
                writer.write(b"%bContent-Length: %d\r\n\r\n%b" % (HEAD, len(body), body))
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


@asynccontextmanager
async def asking(port):
    """Give a function that asks once, each time with another prompt, and returns the status line of the reply."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    number = 0

    async def ask():
        nonlocal number
        number += 1
        body = b'{"model":"tiny","messages":[{"role":"user","content":"%b?"}]}' % (b"Why" * (1 + number % 7))
        writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
        )
        head = await reader.readuntil(b"\r\n\r\n")
        _, _, rest = head.lower().partition(b"content-length: ")
        await reader.readexactly(int(rest.split(b"\r\n")[0]))
        return head.partition(b"\r\n")[0]

    yield ask
    writer.close()


async def calls_of_one_request(backend):
    """Return how often each function of Nexus was entered for one request, by file and name."""
    root = str(Path(sys.modules["nexus"].__file__).parent)
    calls = Counter()

    def note(frame, event, _arg):
        if event == "call" and frame.f_code.co_filename.startswith(root):
            calls[frame.f_code.co_filename[len(root) + 1 :], frame.f_code.co_qualname] += 1

    async with nexus_in_loop(CONFIG.format(port=backend)) as nexus, asking(nexus.port) as ask:
        for _ in range(20):
            await ask()
        await wait_until_nothing_is_held(nexus)
        await asyncio.sleep(0)
        sys.setprofile(note)
        try:
            status = await ask()
            await asyncio.sleep(0)
        finally:
            sys.setprofile(None)
    assert status == b"HTTP/1.1 200 OK"
    return calls


async def test_a_warm_request_passes_through_few_files_and_calls(backend):
    calls = await calls_of_one_request(backend)
    files = Counter()
    for (file, _), count in calls.items():
        files[file] += count
    path = "\n".join(f"{count:4} {file}" for file, count in files.most_common())

    assert len(files) <= MAX_FILES, path
    assert calls.total() <= MAX_CALLS, path
