"""What nobody has to change passes byte for byte, both ways, on every endpoint."""

import json
from typing import NamedTuple

import pytest

from nexus.simulator import Status
from nexus.testing.client import ask, chat

REQUEST_ID = "transparent-1"

ODD_FIELDS = (
    rb'"unknown":{"deep":[1,  2,{"x":null}]} ,"big":123456789012345678901234567890,"small" : 1.50e-05,'
    rb'"minus":-0.0,"text":"\u00e9 \ud83d\ude00 \/ \t ' + "é 😀".encode() + rb'","empty":{},"t":true'
)


class Example(NamedTuple):
    """A request that an endpoint understands."""

    path: str
    model: str
    fields: bytes
    """Further members of the body."""


ENDPOINTS = {
    example.path: example
    for example in (
        Example("/v1/chat/completions", "qwen3", rb'"messages" : [ {"role":"user","content":"h\u0069 \"there\""} ]'),
        Example("/v1/completions", "qwen3", rb'"prompt":"once"'),
        Example("/v1/embeddings", "qwen3", rb'"input": ["one","t\u0077o"]'),
        Example("/v1/responses", "qwen3", rb'"input":"hi"'),
        Example("/v1/rerank", "qwen3", rb'"query":"q","documents":["a","b"]'),
        Example("/v1/score", "qwen3", rb'"text_1":"a","text_2":["b"]'),
        Example("/tokenize", "qwen3", rb'"prompt":"a b"'),
        Example("/detokenize", "qwen3", rb'"tokens":[1,2]'),
        Example("/v1/messages", "qwen3", rb'"max_tokens":9,"messages":[{"role":"user","content":"hi"}]'),
        Example("/v1/messages/count_tokens", "qwen3", rb'"messages":[{"role":"user","content":"hi"}]'),
        Example("/v1/audio/speech", "llama3", rb'"input":"hi","voice":"alloy"'),
        Example("/v1/images/generations", "llama3", rb'"prompt":"a cat"'),
        Example("/api/chat", "gemma", rb'"messages":[{"role":"user","content":"hi"}]'),
        Example("/api/generate", "gemma", rb'"prompt":"hi"'),
        Example("/api/embed", "nomic-embed-text", rb'"input":"hi"'),
        Example("/api/embeddings", "nomic-embed-text", rb'"prompt":"hi"'),
    )
}
STREAMS = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages", "/api/chat", "/api/generate")

each_endpoint = pytest.mark.parametrize("path", ENDPOINTS)
each_stream = pytest.mark.parametrize("path", STREAMS)


def odd_body(path: str, model: str | None = None, more: bytes = b"") -> bytes:
    wanted = json.dumps(model or ENDPOINTS[path].model).encode()
    parts = (ODD_FIELDS, b'"model" :\t' + wanted, ENDPOINTS[path].fields, *([more] if more else []))
    return b" {\n  " + b" ,\r\n ".join(parts) + b"}\n\n"


def form(model: str) -> bytes:
    sound = b"\r\n--frontie \x00\xff--\r\n" * 20
    return (
        b'--frontier\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n'
        b"Content-Type: audio/wav\r\n\r\n" + sound + b"\r\n--frontier\r\n"
        b'Content-Disposition: form-data; name="odd"\r\n\r\n  value \r\n--frontier\r\n'
        b'Content-Disposition: form-data; name="model"\r\n\r\n' + model.encode() + b"\r\n--frontier--\r\n"
    )


FORM_HEADERS = {"Content-Type": "multipart/form-data; boundary=frontier"}


def sent(fleet, path, body, headers=None):
    """Send *body* and return it as the server behind the proxy has received it."""
    simulator = fleet.having(ENDPOINTS[path].model)
    before = len(simulator.received(path))
    reply = ask(fleet.url, path, body, headers=headers)
    assert reply.status == 200, reply.body
    received = simulator.received(path)
    assert len(received) == before + 1
    return received[-1].body


@each_endpoint
def test_a_request_arrives_as_it_was_sent(fleet, path):
    body = odd_body(path)

    assert sent(fleet, path, body) == body


@each_stream
@pytest.mark.parametrize("stream", [b'"stream":true', b'"stream" : false '])
def test_so_does_one_that_says_whether_to_stream(fleet, path, stream):
    body = odd_body(path, more=stream)

    assert sent(fleet, path, body) == body


def test_a_form_arrives_as_it_was_sent_though_its_model_comes_after_the_file(fleet):
    body = form("whisper")

    reply = ask(fleet.url, "/v1/audio/transcriptions", body, headers=FORM_HEADERS)

    assert reply.status == 200
    assert fleet.gpu.received("/v1/audio/transcriptions")[-1].body == body


@pytest.mark.parametrize("path", ["/v1/audio/transcriptions", "/v1/audio/translations"])
def test_an_alias_changes_the_model_of_a_form_alone(fleet, path):
    reply = ask(fleet.url, path, form("gpt-4o"), headers=FORM_HEADERS)

    assert reply.status == 200
    assert fleet.gpu.received(path)[-1].body == form("llama3")


@pytest.mark.parametrize("written", [b'"gpt-4o"', rb'"gpt-\u0034o"', rb'"\u0067pt-4o"'])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/embeddings", "/v1/responses", "/v1/images/generations"])
def test_an_alias_changes_the_value_of_the_model_and_no_other_byte(fleet, path, written):
    # The name also stands where it is no member of the top level.
    more = rb'"metadata":{"model":"gpt-4o"},"user":"\"model\":\"gpt-4o\""'
    before, after = odd_body(path, "MODEL", more), odd_body(path, "llama3", more)
    body = before.replace(b'"MODEL"', written)

    reply = ask(fleet.url, path, body)

    assert reply.status == 200
    assert fleet.gpu.received(path)[-1].body == after


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/responses"])
def test_an_alias_s_answer_carries_the_name_that_was_asked_for(fleet, path):
    whole = ask(fleet.url, path, odd_body(path, "gpt-4o"))
    streamed = ask(fleet.url, path, odd_body(path, "gpt-4o", b'"stream":true'))

    for reply in (whole, streamed):
        assert b'"model":"gpt-4o"' in reply.body
        assert b'"llama3"' not in reply.body


def test_a_tool_s_own_model_is_left_alone_in_the_answer_of_an_alias(fleet):
    body = '{ "content":[{"type":"tool_use","input":{"model":"qwen3"}}] , "model" : "qwen3"}'
    fleet.vllm.faults.set(Status(status=200, body=body, times=1))

    reply = ask(fleet.url, "/v1/messages", odd_body("/v1/messages", "claude"))

    assert reply.body == body.replace('"model" : "qwen3"', '"model" : "claude"').encode()


@pytest.mark.parametrize("stream", [b"false", b"true"])
def test_a_fallback_s_answer_names_the_model_that_made_it(fleet, stream):
    path = "/v1/chat/completions"

    reply = ask(fleet.url, path, odd_body(path, "retired", b'"stream":' + stream))

    assert reply.headers["X-Nexus-Fallback-Model"] == "llama3"
    assert b'"model":"llama3"' in reply.body
    assert b"retired" not in reply.body


def test_a_fallback_changes_the_value_of_the_model_and_says_so(fleet):
    path = "/v1/chat/completions"

    reply = ask(fleet.url, path, odd_body(path, "retired"))

    assert reply.status == 200
    assert reply.headers["X-Nexus-Fallback-Model"] == "llama3"
    assert fleet.gpu.received(path)[-1].body == odd_body(path, "llama3")


@pytest.mark.parametrize(
    ("path", "stream"), [*((path, b"false") for path in ENDPOINTS), *((path, b"true") for path in STREAMS)]
)
def test_an_answer_is_the_one_that_the_server_gives_when_asked_directly(fleet, path, stream):
    body = odd_body(path, more=b'"stream":' + stream)
    headers = {"X-Request-Id": REQUEST_ID}

    direct = ask(fleet.having(ENDPOINTS[path].model).url, path, body, headers=headers)
    passed = ask(fleet.url, path, body, headers=headers)

    assert (passed.status, passed.body) == (direct.status, direct.body)
    assert passed.headers["Content-Type"] == direct.headers["Content-Type"]


ODD_ANSWER = '\n{ "error_free" : true,\t"id":"\\u0041",\r\n "n":12345678901234567890123, "f":1.10 ,"é":"\\/"}  \n'
ODD_EVENTS = {
    "/v1/chat/completions": (
        ": a comment\n\n"
        'data:{"choices":[{"delta":{"content":"a"},"index":0}] ,  "odd":1.10}\n\n'
        "event: strange\nid: 7\nretry: 10\ndata:   not json at all\n\n"
        'data: {"choices":[],\ndata: "usage":{"prompt_tokens":1,"completion_tokens":2}}\n\n'
        "data: [DONE]\n\n"
    ),
    "/v1/messages": (
        'event: message_start\ndata: {"type":"message_start",  "message":{"odd":1.10}}\n\n'
        'event: content_block_delta\ndata:{"type":"content_block_delta","delta":{"type":"text_delta","text":"a"}}\n\n'
        'event: from_the_future\ndata: {"type":"from_the_future"}\n\n'
        'event: message_stop\ndata: {"type":"message_stop" }\n\n'
    ),
    "/api/chat": (
        '{"message": {"content":"a"},"done":false , "odd":1.10}\n'
        '{"from":"the future"}\n'
        '{"message":{"content":""},"done" :true,"eval_count":2,"prompt_eval_count":1}\n'
    ),
}
VENDOR_HEADERS = {
    "x-ratelimit-limit-requests": "100",
    "x-ratelimit-remaining-tokens": "1999",
    "anthropic-ratelimit-requests-reset": "2026-01-01T00:00:00Z",
    "openai-processing-ms": "12",
    "openai-organization": "acme",
    "x-vendor-thing": "a,b;  c",
}


@each_endpoint
@pytest.mark.parametrize("status", [200, 201, 400, 404, 422])
def test_an_odd_answer_passes_as_it_is_with_the_vendor_s_headers(fleet, path, status):
    simulator = fleet.having(ENDPOINTS[path].model)
    simulator.faults.set(Status(status=status, body=ODD_ANSWER, headers=VENDOR_HEADERS, on="all"))

    reply = ask(fleet.url, path, odd_body(path, more=b'"stream":false'))

    assert (reply.status, reply.body) == (status, ODD_ANSWER.encode())
    assert {name: reply.headers[name] for name in VENDOR_HEADERS} == VENDOR_HEADERS


@pytest.mark.parametrize("path", ODD_EVENTS)
def test_odd_events_pass_as_they_are_with_the_vendor_s_headers(fleet, path):
    content_type = "application/x-ndjson" if path.startswith("/api") else "text/event-stream; charset=utf-8"
    headers = VENDOR_HEADERS | {"Content-Type": content_type, "Cache-Control": "no-cache"}
    fleet.having(ENDPOINTS[path].model).faults.set(Status(status=200, body=ODD_EVENTS[path], headers=headers, times=1))

    reply = ask(fleet.url, path, odd_body(path, more=b'"stream":true'))

    assert reply.status == 200
    assert reply.body == ODD_EVENTS[path].encode()
    assert {name: reply.headers[name] for name in headers} == headers


def test_a_query_arrives_as_it_was_sent(fleet):
    reply = ask(fleet.url, "/v1/chat/completions?api-version=2024-10-21&x=%2f%C3%A9+y", chat())

    assert reply.status == 200
    assert fleet.gpu.requests[-1].request.target == "/v1/chat/completions?api-version=2024-10-21&x=%2f%C3%A9+y"


def test_a_client_s_own_headers_arrive_and_those_of_the_hop_do_not(fleet):
    headers = {
        "OpenAI-Organization": "acme",
        "OpenAI-Beta": "assistants=v2",
        "anthropic-version": "2023-06-01",
        "X-Stainless-Lang": "python",
        "Idempotency-Key": "k-1",
        "User-Agent": "mine/1",
        "Traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "Connection": "x-hop",
        "X-Hop": "1",
        "Cookie": "session=secret",
        "X-Forwarded-For": "10.0.0.1",
        "X-Nexus-Backend": "mine",
    }

    reply = ask(fleet.url, "/v1/messages", chat("qwen3", max_tokens=9), headers=headers)

    assert reply.status == 200
    request = fleet.vllm.received("/v1/messages")[-1].request
    passed = ("OpenAI-Organization", "OpenAI-Beta", "anthropic-version", "X-Stainless-Lang", "Idempotency-Key")
    for name in (*passed, "User-Agent", "Traceparent"):
        assert request.header(name) == headers[name]
    for name in ("X-Hop", "Cookie", "X-Forwarded-For", "X-Nexus-Backend"):
        assert request.header(name) == ""
    assert request.header("Host") == fleet.vllm.url.removeprefix("http://")


def test_two_members_of_one_name_are_refused_before_two_readers_can_disagree(fleet):
    asked_before = len(fleet.gpu.received("/v1/chat/completions"))

    reply = ask(fleet.url, "/v1/chat/completions", b'{"model":"llama3","messages":[],"mode\\u006c":"qwen3"}')

    assert reply.status == 400
    assert reply.json()["error"]["param"] == "model"
    assert len(fleet.gpu.received("/v1/chat/completions")) == asked_before
