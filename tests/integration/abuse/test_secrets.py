"""What must never be seen: keys and prompts, in any answer, log line or page of a real process; and what may not be
said: parameters that name another server.
"""

import http.client
import json

import pytest

from nexus.simulator import Settings, Simulator, Status, in_thread
from tests.support.dialects import CHAT, MODEL
from tests.support.process import run_nexus

CLIENTS_KEY = "c4n4ry-clients-key"
BACKENDS_KEY = "c4n4ry-backends-key"
PROMPT = "c4n4ry-prompt"
QUERY = "c4n4ry-query"
ELSEWHERE = "http://127.0.0.1:1/c4n4ry"
CONFIG = """
[server]
api_keys = ["env:CLIENTS_KEY"]
[logging]
level = "debug"
[health_check]
interval_seconds = 3600
[routing]
max_retries = 0
[[backends]]
name = "gpu-1"
url = "{url}"
type = "vllm"
api_key = "env:BACKENDS_KEY"
"""


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """Give a process that logs all it can, and the server behind it."""
    settings = Settings(name="gpu-1", kind="vllm", models=(MODEL,), answer_tokens=8, api_key=BACKENDS_KEY)
    environ = {"CLIENTS_KEY": CLIENTS_KEY, "BACKENDS_KEY": BACKENDS_KEY}
    with in_thread(Simulator(settings)) as (simulator,):
        config = CONFIG.format(url=simulator.url)
        with run_nexus(tmp_path_factory.mktemp("secrets"), config, environ=environ) as nexus:
            yield nexus, simulator


def ask(nexus, body, *, path="/v1/chat/completions", headers=(), method="POST"):
    connection = http.client.HTTPConnection("127.0.0.1", nexus.port, timeout=5)
    connection.request(
        method,
        path,
        body=body,
        headers={"Authorization": f"Bearer {CLIENTS_KEY}", "Content-Type": "application/json", **dict(headers)},
    )
    response = connection.getresponse()
    seen = response.status, response.read().decode(), repr(response.getheaders())
    connection.close()
    return seen


def chat(*, stream=False, **fields):
    return CHAT.body(stream=stream, **{"messages": [{"role": "user", "content": PROMPT}], **fields})


CASES = {
    "a good request": {"body": chat()},
    "a stream": {"body": chat(stream=True)},
    "a query": {"body": chat(), "path": f"/v1/chat/completions?key={QUERY}"},
    "a wrong path": {"body": chat(), "path": f"/v1/nothing?key={QUERY}"},
    "an unknown model": {"body": chat(model="nobody-has-this")},
    "not JSON": {"body": b'{"model":' + PROMPT.encode()},
    "a wrong type": {"body": chat(max_tokens=PROMPT)},
    "a wrong key": {"body": chat(), "headers": {"Authorization": f"Bearer {CLIENTS_KEY}-not"}},
    "a basic key": {"body": chat(), "headers": {"Authorization": f"Basic {CLIENTS_KEY}"}},
    "a malformed header": {"body": chat(), "headers": {"X-Nexus-Priority": f"{CLIENTS_KEY}\xe9"}},
    "a wrong host": {"body": chat(), "headers": {"Host": f"{QUERY}.example"}},
    "a wrong type of body": {"body": chat(), "headers": {"Content-Type": "text/plain"}},
    "a foreign page": {"body": chat(), "headers": {"Origin": f"http://{QUERY}"}},
}


@pytest.mark.parametrize("case", CASES)
def test_no_answer_of_ours_repeats_a_secret(scene, case):
    nexus, _ = scene

    status, body, headers = ask(nexus, **CASES[case])

    assert status < 500
    assert "c4n4ry" not in headers
    assert "c4n4ry" not in body.replace(PROMPT, "") if status == 200 else "c4n4ry" not in body


@pytest.mark.parametrize("status", [400, 401, 403, 500, 503])
def test_an_error_of_a_backend_does_not_show_its_key(scene, status):
    nexus, simulator = scene
    error = json.dumps({"error": {"message": f"wrong key {BACKENDS_KEY} for {PROMPT}"}})
    simulator.faults.set(Status(status=status, body=error, headers={"X-Debug": BACKENDS_KEY}, times=1))

    _, body, headers = ask(nexus, chat())

    assert BACKENDS_KEY not in body + headers


@pytest.mark.parametrize("path", ["/metrics", "/health", "/ready", "/admin/backends", "/v1/models", "/api/tags", "/"])
def test_no_page_shows_a_secret(scene, path):
    nexus, _ = scene
    ask(nexus, chat())

    status, body, headers = ask(nexus, None, path=path, method="GET", headers={"Accept": "text/html"})

    assert status == 200
    assert "c4n4ry" not in body + headers


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("api_base", ELSEWHERE),
        ("base_url", ELSEWHERE),
        ("api_key", CLIENTS_KEY),
        ("api_version", "1"),
        ("extra_headers", {"Authorization": "x"}),
        ("mock_response", "hello"),
        ("user_config", {"model_list": []}),
        ("api_base", None),
    ],
)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/embeddings", "/v1/responses"])
def test_no_request_chooses_its_server_or_its_key(scene, path, name, value):
    nexus, simulator = scene
    asked = len(simulator.received(path))

    status, body, _ = ask(nexus, chat(**{name: value, "input": "x", "max_tokens": 1}), path=path)

    error = json.loads(body)["error"]
    assert (status, error["code"], error["param"]) == (400, "unsupported_parameter", name)
    assert len(simulator.received(path)) == asked


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/embeddings", "/v1/responses"])
def test_no_request_chooses_its_fallbacks_where_that_is_a_proxys_word(scene, path):
    # In Anthropic's protocol it is the API's own.
    nexus, _ = scene

    status, body, _ = ask(nexus, chat(fallbacks=["other"], input="x"), path=path)

    assert (status, json.loads(body)["error"]["param"]) == (400, "fallbacks")


@pytest.mark.parametrize(
    "model",
    [
        "x\r\nlevel=error event=forged",
        "x\x1b[31mred",
        "x\u202egnp.exe",
        "x\u2028y",
        "x\u0085y",
        "x\x00y",
        "<script>",
        "m" * 900,
    ],
    ids=repr,
)
def test_a_log_line_cannot_be_forged(scene, model):
    nexus, _ = scene
    lines_before = len(nexus.log_lines())

    ask(nexus, chat(model=model), headers={"X-Request-Id": "forged"})
    nexus.wait_for_log("exchange_finished")

    assert not any(line.get("event") == "forged" for line in nexus.log_lines())
    assert len(nexus.log_lines()) >= lines_before
    text = nexus.log_text()
    assert all(c == "\n" or c.isprintable() for c in text)
    assert max(map(len, text.splitlines())) < 4096
    assert all(line.startswith("{") for line in text.splitlines())


def test_words_of_a_backend_cannot_forge_a_log_line_either(scene):
    nexus, simulator = scene
    error = json.dumps({"error": {"message": 'x\r\n{"event":"forged"}\x1b[2J\u202e'}}, ensure_ascii=False)
    simulator.faults.set(Status(status=500, body=error, times=1))

    ask(nexus, chat())

    assert not any(line.get("event") == "forged" for line in nexus.log_lines())
    assert all(c == "\n" or c.isprintable() for c in nexus.log_text())


def test_at_the_end_the_whole_log_holds_no_secret(scene):
    nexus, _ = scene
    for case in CASES.values():
        ask(nexus, **case)
    nexus.wait_for_log("exchange_finished", count=len(CASES) // 2)

    assert nexus.stop() == 0

    text = nexus.log_text()
    assert "exchange_finished" in text
    assert "c4n4ry" not in text
    assert "Traceback" not in text
    errors = [line["event"] for line in nexus.log_lines() if line["level"] == "error"]
    assert set(errors) <= {"exchange_finished"}
