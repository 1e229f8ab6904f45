"""Canaries in everything that is confidential, through every outcome; then all that Nexus says is searched for one."""

import base64
import http.client
import json
import socket
from contextlib import ExitStack, contextmanager
from io import StringIO
from typing import NamedTuple

import pytest

from nexus.config.schema import LoggingConfig
from nexus.observability.logging import logs
from nexus.proxy.exchange import exchange
from nexus.simulator import ErrorEvent, Settings, Simulator, Status, in_thread
from nexus.testing.fleets import table_of
from nexus.testing.proxy import nexus_in_loop
from nexus.testing.waiting import until
from tests.support.collector import collector
from tests.support.process import run_nexus
from tests.support.raw_client import RawClient

pytest.importorskip("opentelemetry.sdk")

SONG = "c4n4ry"
CLIENTS_KEY, ADMINS_KEY, BACKENDS_KEY, COLLECTORS_KEY = (f"{SONG}-key-of-{who}" for who in "1234")
SECRET = f"{SONG}-told-in-confidence"
PICTURE = base64.b64encode(SECRET.encode()).decode()
CONFIG = """
[server]
api_keys = ["env:CLIENTS_KEY"]
admin_keys = ["env:ADMINS_KEY"]
max_body_bytes = 10_000
[logging]
level = "debug"
[store]
kind = "sqlite"
[otel]
enabled = true
endpoint = "{collector}"
headers = {{ authorization = "env:COLLECTORS_KEY" }}
[routing.fallbacks]
retired = ["llama3"]
"""
ENVIRON = {
    "CLIENTS_KEY": CLIENTS_KEY,
    "ADMINS_KEY": ADMINS_KEY,
    "BACKENDS_KEY": BACKENDS_KEY,
    "COLLECTORS_KEY": f"Bearer {COLLECTORS_KEY}",
}

TOOL = {"name": "look_up", "description": SECRET, "parameters": {"type": "object", "properties": {SECRET: {}}}}
TEXT = [{"role": "system", "content": SECRET}, {"role": "user", "content": SECRET}]
SEEN = [
    {"type": "text", "text": SECRET},
    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PICTURE}"}},
]
FORM = (
    "--b\r\ncontent-disposition: form-data; name=model\r\n\r\nllama3\r\n"
    f"--b\r\ncontent-disposition: form-data; name=prompt\r\n\r\n{SECRET}\r\n"
    f'--b\r\ncontent-disposition: form-data; name=file; filename="{SECRET}"\r\n\r\n{SECRET}\r\n--b--\r\n'
)
CHAT, MESSAGES, OLLAMA = "/v1/chat/completions", "/v1/messages", "/api/chat"

REQUESTS = [
    (CHAT, {"messages": TEXT, "user": SECRET, "tools": [{"type": "function", "function": TOOL}]}),
    (CHAT, {"messages": [{"role": "user", "content": SEEN}], "stream": True}),
    (CHAT, {"messages": TEXT, "model": "retired"}),
    (CHAT, {"messages": TEXT, "model": "nobody-has-this"}),
    (CHAT, {"messages": TEXT, "max_tokens": SECRET}),
    (CHAT, {"messages": TEXT, "api_base": f"http://{SECRET}"}),
    (CHAT, {"messages": [*TEXT, {"role": "user", "content": SECRET * 1000}]}),
    ("/v1/completions", {"prompt": SECRET, "suffix": SECRET}),
    ("/v1/responses", {"input": SECRET, "instructions": SECRET}),
    ("/v1/embeddings", {"input": [SECRET, SECRET]}),
    ("/v1/rerank", {"query": SECRET, "documents": [SECRET]}),
    ("/v1/audio/speech", {"input": SECRET, "voice": SECRET}),
    (MESSAGES, {"system": SECRET, "messages": TEXT[1:], "max_tokens": 9, "tools": [{**TOOL, "input_schema": {}}]}),
    (MESSAGES, {"messages": TEXT[1:], "max_tokens": 9, "stream": True, "metadata": {"user_id": SECRET}}),
    (OLLAMA, {"messages": [{"role": "user", "content": SECRET, "images": [PICTURE]}]}),
    ("/api/generate", {"prompt": SECRET, "system": SECRET, "stream": False}),
    ("/v1/route/explain", {"messages": TEXT, "tools": [{"type": "function", "function": TOOL}]}),
    (f"/v1/nothing/{SECRET}", {"messages": TEXT}),
]
BACKENDS_WORDS = json.dumps({"error": {"message": f"{BACKENDS_KEY} and {SECRET} and {CLIENTS_KEY}"}})
FAULTS = [
    Status(status=400, body=BACKENDS_WORDS),
    Status(status=401, body=BACKENDS_WORDS, headers={"X-Debug": BACKENDS_KEY}),
    Status(status=429, body=BACKENDS_WORDS),
    Status(status=500, body=BACKENDS_WORDS),
    Status(status=503, body=BACKENDS_WORDS),
    ErrorEvent(),
]
PAGES = [
    *("/metrics", "/v1/stats", "/v1/history", "/v1/route/decisions?limit=1000", "/admin/overview", "/admin/backends"),
    *("/admin/plugins", "/health", "/ready", "/v1/models", "/api/tags", "/openapi.json", "/"),
]


class Said(NamedTuple):
    """An answer."""

    status: int
    head: str
    body: str


def send(nexus, path, body, *, key=CLIENTS_KEY, method="POST", content_type="application/json", **headers):
    """Send one request with a canary wherever a header has room for one; return its answer."""
    connection = http.client.HTTPConnection("127.0.0.1", nexus.port, timeout=10)
    said = {
        "Authorization": f"Bearer {key}",
        "Content-Type": content_type,
        "Cookie": f"session={SECRET}",
        "X-Custom": SECRET,
        "Referer": f"http://localhost/{SECRET}",
        "User-Agent": SECRET,
        "X-Nexus-Explain": "1",
        **headers,
    }
    connection.request(method, path, body, headers=said)
    reply = connection.getresponse()
    said = Said(reply.status, str(reply.getheaders()), reply.read().decode(errors="replace"))
    connection.close()
    return said


def send_all(nexus, simulator):
    """Go through every outcome, and return what must hold no canary: all refusals of ours, with their heads."""
    for path, body in REQUESTS:
        send(nexus, f"{path}?key={SECRET}", json.dumps({"model": "llama3", **body}))
    send(nexus, "/v1/audio/transcriptions", FORM, content_type="multipart/form-data; boundary=b")
    for fault in FAULTS:
        for path, body in (REQUESTS[0], REQUESTS[1], REQUESTS[12]):
            simulator.faults.set(fault)
            send(nexus, path, json.dumps({"model": "llama3", **body}))
    simulator.faults.clear()
    good = json.dumps({"model": "llama3", "messages": TEXT})
    refused = [
        send(nexus, CHAT, good[:-3]),
        send(nexus, CHAT, f'{{"model": {SECRET}'),
        send(nexus, CHAT, good, content_type=f"text/{SECRET}"),
        send(nexus, CHAT, good, key=f"{CLIENTS_KEY}-not"),
        send(nexus, CHAT, good, Host=f"{SECRET}.example"),
        send(nexus, CHAT, good, Origin=f"http://{SECRET}"),
        send(nexus, CHAT, good, **{"X-Nexus-Priority": f"{SECRET}\xe9"}),
        send(nexus, "/admin/backends/gpu-1/drain", "", key=f"{ADMINS_KEY}-not"),
        send(nexus, f"/admin/backends/gpu-1/{SECRET}", "", key=ADMINS_KEY),
    ]
    with socket.create_connection(("127.0.0.1", nexus.port)) as sock:
        sock.sendall(f"GET /{SECRET} HTTP/1.1\r\nAuthorization: {SECRET}\r\n{SECRET}\r\n\r\n".encode())
        refused.append(Said(0, sock.recv(65536).decode(), ""))
    for word in ("drain", "undrain"):
        send(nexus, f"/admin/backends/gpu-1/{word}", "", key=ADMINS_KEY)
    return refused


def pages_of(nexus):
    """Return every page, and all that can be asked about each decision."""

    def get(path):
        return send(nexus, path, None, key=ADMINS_KEY, method="GET")

    pages = [get(path) for path in PAGES]
    decisions = json.loads(get("/v1/route/decisions?limit=1000").body)["decisions"]
    assert {page.status for page in pages} <= {200, 503}
    assert len(decisions) > len(REQUESTS)
    return pages + [get(f"/v1/route/decisions/{decision['id']}") for decision in decisions]


@pytest.fixture(scope="module", params=["json", "pretty"])
def sinks(request, tmp_path_factory):
    """Give, by its name, all that was said by a proxy to which everything has happened."""
    folder = tmp_path_factory.mktemp("canaries")
    settings = Settings(name="gpu-1", kind="vllm", models=("llama3",), api_key=BACKENDS_KEY)
    with ExitStack() as running:
        collected = running.enter_context(collector())
        (simulator,) = running.enter_context(in_thread(Simulator(settings)))
        config = CONFIG.format(collector=collected.url) + table_of(simulator, api_key="env:BACKENDS_KEY")
        environ = {**ENVIRON, "NEXUS_LOG_FORMAT": request.param}
        nexus = running.enter_context(run_nexus(folder, config, environ=environ))
        refused = send_all(nexus, simulator)
        pages = pages_of(nexus)
        nexus.send(1)
        until(lambda: "config_reloaded" in nexus.log_text())
        assert nexus.stop() == 0
        yield {
            "refusals": "\n".join(said.head + said.body for said in refused),
            "pages": "\n".join(said.head + said.body for said in pages),
            "log": nexus.log_text(),
            "traces": b"".join(collected.bodies).decode("latin-1"),
            "store": "".join(file.read_bytes().decode("latin-1") for file in folder.glob("*.sqlite3*")),
        }


@pytest.mark.parametrize("sink", ["refusals", "pages", "log", "traces", "store"])
def test_no_canary_sings(sinks, sink):
    said = sinks[sink]

    assert len(said) > 1000
    found = said.find(SONG)
    assert found < 0, said[max(0, found - 300) : found + 100]
    assert PICTURE not in said


def test_everything_has_happened(sinks):
    log = sinks["log"]

    happened = ("exchange_finished", "exchange_begun", "attempt_failed", "request_refused", "drain_requested")
    assert [event for event in happened if event not in log] == []
    assert [code for code in ("invalid_json", "model_not_found", "too_large", "backend_auth") if code not in log] == []


@contextmanager
def logging_to(stream):
    """Log all there is, and leave nothing of that behind."""
    logs.configure(LoggingConfig(level="debug", format="json"), stream=stream)
    yield
    logs.configure(LoggingConfig(), stream=StringIO())
    logs.shutdown()


async def test_a_defect_of_ours_shows_nothing_of_the_request(tmp_path, monkeypatch):
    def break_down(record, attempt, response, attempts):
        held = response.body + attempt.upstream.head_template.configured_lines
        raise ZeroDivisionError(len(held))

    monkeypatch.setattr(exchange, "reply_head", break_down)
    body = json.dumps({"model": "llama3", "messages": TEXT}).encode()
    lines = f"Host: localhost\r\nContent-Type: application/json\r\nX-Api-Key: {SECRET}\r\n"
    head = f"POST {CHAT}?k={SECRET} HTTP/1.1\r\n{lines}"
    with (tmp_path / "log").open("w") as stream, logging_to(stream):
        async with (
            Simulator(Settings(name="gpu-1", models=("llama3",))) as gpu,
            nexus_in_loop(table_of(gpu, type="generic")) as nexus,
        ):
            client = await RawClient.connect(nexus.port)
            client.writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            reply = await client.reply()
            client.leave()

    said = (tmp_path / "log").read_text()
    assert "exchange_crashed" in said
    assert "ZeroDivisionError" in said
    assert SONG not in said
    assert SONG.encode() not in reply.body
