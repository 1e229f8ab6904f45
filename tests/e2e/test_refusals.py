"""What is refused is refused in the client's own protocol, with what would make it succeed."""

import http.client

import openai
import pytest

from nexus.simulator import Refuse, Status
from nexus.testing.client import ask, chat
from nexus.testing.fleets import backend_table, table_of
from nexus.testing.ports import free_port

CHATS = {"openai": "/v1/chat/completions", "anthropic": "/v1/messages", "ollama": "/api/chat"}
each_protocol = pytest.mark.parametrize("protocol", CHATS)


def code_and_message(protocol, reply):
    """Read an error as a client library of *protocol* does; fail when it has another shape."""
    body = reply.json()
    assert reply.headers["Content-Type"] == "application/json"
    if protocol == "ollama":
        return body["code"], body["error"]
    if protocol == "anthropic":
        assert body["type"] == "error"
        assert body["request_id"] == reply.headers["X-Request-Id"]
    else:
        assert {"message", "type", "param", "code"} == set(body["error"])
    return body["error"]["code"], body["error"]["message"]


@each_protocol
@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "invalid_json"),
        (b"{", 400, "invalid_json"),
        (b'{"model":"llama3"} trailing', 400, "invalid_json"),
        (b'{"model":"llama3","messages":' + b"[" * 100_000, 400, "invalid_json"),
        (b'"llama3"', 400, "invalid_value"),
        (b"[]", 400, "invalid_value"),
        (b'{"messages":[]}', 400, "invalid_value"),
        (b'{"model":null}', 400, "invalid_value"),
        (b'{"model":7}', 400, "invalid_value"),
        (b'{"model":"llama3","stream":"yes"}', 400, "invalid_value"),
        (b'{"model":"nope","messages":[]}', 404, "model_not_found"),
    ],
)
def test_a_wrong_body_is_named_for_what_it_is(fleet, protocol, body, status, code):
    reply = ask(fleet.url, CHATS[protocol], body)

    assert (reply.status, code_and_message(protocol, reply)[0]) == (status, code)


def test_a_member_given_twice_beside_a_model_to_rename_is_the_clients_mistake(fleet):
    body = b'{"seed":1,"seed":2,"messages":[{"role":"user","content":"","model":"y"}],"model":"gpt-4o"}'

    reply = ask(fleet.url, CHATS["openai"], body)

    assert (reply.status, code_and_message("openai", reply)[0]) == (400, "invalid_json")


@each_protocol
def test_a_body_that_is_too_large_is_refused_before_it_is_read(fleet, protocol):
    connection = http.client.HTTPConnection(fleet.url.removeprefix("http://"), timeout=5)
    connection.putrequest("POST", CHATS[protocol])
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Content-Length", "1000001")
    connection.endheaders()

    answer = connection.getresponse()
    body = answer.read()
    connection.close()

    assert answer.status == 413
    assert b'"too_large"' in body


def test_a_body_of_exactly_the_limit_is_taken(fleet):
    body = b'{"model":"nope","x":"' + b"x" * 999_977 + b'"}'

    assert len(body) == 1_000_000
    assert ask(fleet.url, "/v1/chat/completions", body).status == 404
    assert ask(fleet.url, "/v1/chat/completions", body + b" ").status == 413


@pytest.mark.parametrize(
    ("path", "protocol"),
    [
        ("/v1/unknown", "openai"),
        ("/v2/chat/completions", "openai"),
        ("/v1/chat/completions/x/y", "openai"),
        ("/v1/fine_tuning/jobs", "openai"),
        ("/api/pull", "ollama"),
        ("/api/delete", "ollama"),
        ("/api/blobs/sha256:0", "ollama"),
        ("/v1/messages/unknown", "anthropic"),
    ],
)
def test_an_unknown_path_is_a_404_in_the_client_s_protocol(fleet, path, protocol):
    reply = ask(fleet.url, path, chat())

    assert (reply.status, code_and_message(protocol, reply)[0]) == (404, "not_found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("PUT", "/v1/chat/completions", "GET, POST"), ("DELETE", "/v1/models", "GET, HEAD"), ("PUT", "/api/chat", "POST")],
)
def test_a_wrong_method_says_which_would_do(fleet, method, path, allowed):
    reply = ask(fleet.url, path, method=method)

    assert (reply.status, reply.headers["Allow"]) == (405, allowed)


def test_what_no_backend_keeps_is_a_404_that_says_so(fleet):
    reply = ask(fleet.url, "/v1/messages/batches", {"requests": []}, headers={"anthropic-version": "2023-06-01"})

    assert (reply.status, reply.json()["error"]["code"]) == (404, "protocol_not_supported")
    assert "No backend serves POST /v1/messages/batches" in reply.json()["error"]["message"]


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_what_a_web_page_could_send_unasked_is_refused(fleet, content_type):
    reply = ask(fleet.url, "/v1/chat/completions", chat(), headers={"Content-Type": content_type})

    assert (reply.status, reply.json()["error"]["code"]) == (415, "unsupported_media_type")


def test_an_unknown_model_is_told_at_once_with_those_that_there_are(fleet):
    reply = ask(fleet.url, "/v1/chat/completions", chat("nope"))

    error = reply.json()["error"]
    assert error["message"].startswith("Model 'nope' not found. Available: ")
    assert "Retry-After" not in reply.headers


@each_protocol
def test_a_model_whose_servers_are_all_down_is_told_with_when_to_come_back(simulate, start_nexus, protocol):
    kind = {"openai": "generic", "anthropic": "vllm", "ollama": "ollama"}[protocol]
    gpu = simulate(kind=kind)
    nexus = start_nexus("[health_check]\ninterval_seconds = 1\n" + table_of(gpu, type=kind))
    gpu.faults.set(Refuse())
    ask(nexus.url, CHATS[protocol], chat())

    reply = ask(nexus.url, CHATS[protocol], chat())

    assert (reply.status, code_and_message(protocol, reply)[0]) == (503, "no_healthy_backend")
    assert int(reply.headers["Retry-After"]) > 0
    context = reply.json()["context"]
    assert context["available_backends"] == []
    assert {row["agent_id"] for row in context["rejection_reasons"]} == {"gpu-1"}
    rejected = reply.headers["X-Nexus-Rejection-Reasons"]
    assert rejected.startswith("1 agents rejected by ")


def test_a_fleet_without_anybody_says_so_and_is_not_ready(start_nexus):
    nexus = start_nexus(backend_table("gone", f"http://127.0.0.1:{free_port()}"))

    reply = ask(nexus.url, "/v1/chat/completions", chat())
    ready = ask(nexus.url, "/ready")
    health = ask(nexus.url, "/health")

    assert (reply.status, reply.json()["error"]["code"]) == (503, "no_healthy_backend")
    assert int(reply.headers["Retry-After"]) > 0
    assert (ready.status, ready.json()["ready"]) == (503, False)
    assert (health.status, health.json()["status"]) == (200, "unhealthy")


def test_a_backend_s_own_error_passes_when_nobody_does_better(simulate, start_nexus):
    gpu = simulate()
    nexus = start_nexus(table_of(gpu))
    gpu.faults.set(Status(status=429, retry_after="7", body='{"error":{"message":"slow  down","code":"x"}}'))

    reply = ask(nexus.url, "/v1/chat/completions", chat())

    assert (reply.status, reply.headers["Retry-After"]) == (429, "7")
    assert reply.body == b'{"error":{"message":"slow  down","code":"x"}}'


def test_the_library_raises_what_it_raises_for_each_status(fleet, openai_client):
    with pytest.raises(openai.BadRequestError) as malformed:
        openai_client.chat.completions.create(model="llama3", messages=[], max_tokens="many")
    with pytest.raises(openai.APIStatusError) as too_large:
        openai_client.completions.create(model="llama3", prompt="x" * 1_000_001)

    assert malformed.value.param == "max_tokens"
    assert too_large.value.status_code == 413
