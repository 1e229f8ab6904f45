"""What the proxy tells of each request: headers for the client, and one line for the operator."""

import json

import pytest

from nexus.simulator import Status
from nexus.testing.client import ask, chat
from nexus.testing.fleets import table_of
from nexus.testing.waiting import until

PATHS = {
    "/v1/chat/completions": chat(),
    "/v1/completions": {"model": "llama3", "prompt": "hi"},
    "/v1/embeddings": {"model": "llama3", "input": "hi"},
    "/v1/responses": {"model": "llama3", "input": "hi"},
    "/v1/rerank": {"model": "llama3", "query": "q", "documents": ["a"]},
    "/v1/score": {"model": "llama3", "text_1": "a", "text_2": "b"},
    "/tokenize": {"model": "llama3", "prompt": "a"},
    "/detokenize": {"model": "llama3", "tokens": [1]},
    "/v1/audio/speech": {"model": "llama3", "input": "hi", "voice": "alloy"},
    "/v1/images/generations": {"model": "llama3", "prompt": "a cat"},
    "/v1/messages": chat("qwen3", max_tokens=9),
    "/v1/messages/count_tokens": chat("qwen3"),
    "/api/chat": chat("gemma", stream=False),
    "/api/generate": {"model": "gemma", "prompt": "hi", "stream": False},
    "/api/embed": {"model": "nomic-embed-text", "input": "hi"},
    "/api/embeddings": {"model": "nomic-embed-text", "prompt": "hi"},
}
STREAMS = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages", "/api/chat", "/api/generate")
NAMES = ("X-Nexus-Backend", "X-Nexus-Backend-Type", "X-Nexus-Route-Reason", "X-Nexus-Privacy-Zone")

CANARY = "canary-7f3a-sings"


def line_of(fleet, request_id):
    """Return the access line of one request."""
    (line,) = until(
        lambda: [
            line for line in fleet.nexus.log_lines("exchange_finished") if line.get("client_request_id") == request_id
        ]
    )
    return line


@pytest.mark.parametrize("path", PATHS)
def test_every_answer_says_who_gave_it(fleet, path):
    reply = ask(fleet.url, path, PATHS[path])

    name = fleet.having(PATHS[path]["model"]).name
    assert reply.status == 200
    assert tuple(reply.headers[header] for header in NAMES) == (name, "local", "capability-match", "restricted")
    assert reply.headers["X-Request-Id"]
    assert reply.headers.get_all("X-Request-Id") == [reply.headers["X-Request-Id"]]


@pytest.mark.parametrize("path", STREAMS)
def test_every_stream_says_who_gives_it(fleet, path):
    reply = ask(fleet.url, path, PATHS[path] | {"stream": True})

    assert reply.headers["Transfer-Encoding"] == "chunked"
    assert reply.headers["X-Nexus-Backend"] == fleet.having(PATHS[path]["model"]).name
    assert all(reply.headers[header] for header in NAMES)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/api/chat"])
def test_an_error_says_that_nobody_answered(fleet, path):
    reply = ask(fleet.url, path, chat("nope"))

    assert reply.status == 404
    assert tuple(reply.headers[header] for header in NAMES[:3]) == ("none", "none", "none")


def test_what_another_backend_had_to_be_asked_for_is_a_failover(simulate, start_nexus):
    broken, good = simulate(name="broken"), simulate(name="good")
    nexus = start_nexus(table_of(broken, priority=0) + table_of(good, priority=99))
    broken.faults.set(Status(status=503))

    reply = ask(nexus.url, "/v1/chat/completions", chat())

    assert (reply.status, reply.headers["X-Nexus-Backend"]) == (200, "good")
    assert (reply.headers["X-Nexus-Route-Reason"], reply.headers["X-Nexus-Attempts"]) == ("failover", "2")
    (line,) = nexus.wait_for_log("exchange_finished")
    assert line["fallback_chain"] == ["broken", "good"]


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_s_id_comes_back_goes_on_and_is_logged(fleet, stream):
    request_id = f"mine-{stream}"

    reply = ask(fleet.url, "/v1/chat/completions", chat(stream=stream), headers={"X-Request-Id": request_id})

    assert reply.headers["X-Request-Id"] == request_id
    line, asked = line_of(fleet, request_id), fleet.gpu.requests[-1].request
    assert line["model"] == "llama3"
    assert line["request_id"] == reply.headers["X-Nexus-Request-Id"] != request_id
    assert asked.header("X-Request-Id") == request_id


@pytest.mark.parametrize("bad", ["", "with space", "x" * 129, "é"])
def test_a_request_without_a_usable_id_is_given_one(fleet, bad):
    headers = {"X-Request-Id": bad.encode("latin-1").decode("latin-1")}

    reply = ask(fleet.url, "/v1/chat/completions", chat(), headers=headers)

    made = reply.headers["X-Request-Id"]
    if reply.status == 200:
        assert fleet.gpu.requests[-1].request.header("X-Request-Id") == made
    assert made not in {"", bad}


@pytest.mark.parametrize("path", ["/v1/models", "/health", "/nothing/here", "/"])
def test_our_own_pages_have_an_id_too(fleet, path):
    reply = ask(fleet.url, path, headers={"X-Request-Id": "page-1"})

    assert reply.headers["X-Request-Id"] == "page-1"


def test_every_request_has_one_line_with_all_that_an_operator_asks_for(fleet):
    ask(fleet.url, "/v1/chat/completions", chat(stream=True), headers={"X-Request-Id": "line-1"})

    line = line_of(fleet, "line-1")
    facts = {
        "level": "info",
        "endpoint": "openai.chat",
        "model": "llama3",
        "backend": "gpu-1",
        "status_code": 200,
        "code": None,
        "ending": "finished",
        "termination": "--",
        "stream": True,
        "route_reason": "capability-match",
        "attempts": 1,
    }
    assert {name: line[name] for name in facts} == facts
    assert line["latency_ms"] >= line["first_byte_ms"] > 0
    assert set(line["phases_ms"]) == {"receive", "understand", "route", "send", "await_first_byte", "relay"}
    assert sum(line["phases_ms"].values()) == pytest.approx(line["latency_ms"], abs=0.1)
    assert line["bytes_in"] > 0
    assert line["bytes_out"] > 0


@pytest.mark.parametrize("path", [path for path in PATHS if path not in {"/v1/audio/speech", "/v1/images/generations"}])
def test_tokens_are_counted_where_the_server_tells_them(fleet, path):
    reply = ask(fleet.url, path, PATHS[path], headers={"X-Request-Id": f"tokens-{path}"})

    told = reply.json()
    usage = told.get("usage") or told
    prompt = usage.get("prompt_tokens", usage.get("input_tokens", usage.get("prompt_eval_count")))
    completion = usage.get("completion_tokens", usage.get("output_tokens", usage.get("eval_count")))
    line = line_of(fleet, f"tokens-{path}")
    if prompt is not None and completion is not None:
        assert (line["tokens_prompt"], line["tokens_completion"]) == (prompt, completion)


@pytest.mark.parametrize(
    ("path", "body", "tokens"),
    [
        ("/v1/chat/completions", chat(stream=True, stream_options={"include_usage": True}), 16),
        ("/v1/chat/completions", chat(stream=True), 16),
        ("/v1/responses", {"model": "llama3", "input": "hi", "stream": True}, 16),
        ("/v1/messages", chat("qwen3", max_tokens=64, stream=True), 16),
        ("/api/chat", chat("gemma"), 16),
    ],
)
def test_the_tokens_of_a_stream_are_those_it_ends_with(fleet, path, body, tokens):
    # Without a usage, they are counted from what came.
    request_id = f"stream-tokens-{path}-{len(body)}"

    ask(fleet.url, path, body, headers={"X-Request-Id": request_id})

    assert line_of(fleet, request_id)["tokens_completion"] == tokens


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("/v1/chat/completions", b"{", ("bad_request", "invalid_json", 400, "CR")),
        ("/v1/chat/completions", b'{"model":"nope","messages":[]}', ("rejected", "model_not_found", 404, "PQ")),
        ("/api/chat", b'{"model":7}', ("bad_request", "invalid_value", 400, "CR")),
    ],
)
def test_what_was_refused_has_its_line_too(fleet, path, body, expected):
    request_id = f"refused-{expected[1]}"

    ask(fleet.url, path, body, headers={"X-Request-Id": request_id})

    line = line_of(fleet, request_id)
    assert (line["ending"], line["code"], line["status_code"], line["termination"]) == expected
    assert line["backend"] == "none"


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("damage", [lambda body: body, lambda body: body[:-1], lambda body: body + b"}"])
def test_no_prompt_is_ever_logged(fleet, path, damage):
    body = PATHS[path] | {"prompt": CANARY, "input": CANARY, "messages": [{"role": "user", "content": CANARY}]}
    request_id = f"canary-free-{path}-{len(damage(b'xx'))}"

    ask(fleet.url, path, damage(json.dumps(body).encode()), headers={"X-Request-Id": request_id})
    ask(fleet.url, path, b'{"model":"llama3","%s":{"%s":[' % (CANARY.encode(), CANARY.encode()))
    ask(fleet.url, path, b'{"model":7,"max_tokens":"%s"}' % CANARY.encode())
    line_of(fleet, request_id)

    assert CANARY not in fleet.nexus.log_text()


def test_a_key_is_never_logged_and_never_given_to_a_backend_that_has_its_own(simulate, start_nexus):
    gpu = simulate(api_key="sk-backend-sesame")
    nexus = start_nexus(
        table_of(gpu, type="generic", api_key="env:GPU_KEY"),
        arguments=("-l", "debug"),
        environ={"GPU_KEY": "sk-backend-sesame"},
    )

    reply = ask(nexus.url, "/v1/chat/completions", chat(), headers={"Authorization": "Bearer sk-client-sesame"})

    assert reply.status == 200
    assert gpu.requests[-1].request.header("Authorization") == "Bearer sk-backend-sesame"
    nexus.wait_for_log("exchange_finished")
    assert "sesame" not in nexus.log_text()
