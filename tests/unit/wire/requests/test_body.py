"""Ambiguous or harmful bodies are refused in every protocol."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus.errors import RequestError
from nexus.wire.characters import as_long_with_whole_characters, with_whole_characters
from nexus.wire.protocols import ENDPOINTS, PROTOCOLS
from nexus.wire.requests.body import _check_members_once
from nexus.wire.requests.model_field import insert_model, replace_model
from nexus.wire.responses.model_name import restore_in_document

DEEP = 100_000
JSON_PATHS = sorted(path for path, endpoint in ENDPOINTS.items() if endpoint.body == "json")
CHAT_PATHS = ["/v1/chat/completions", "/api/chat", "/v1/messages"]

NO_JSON = {
    "nothing": b"",
    "cut": b'{"model":"m"',
    "invalid UTF-8 outside of texts": b'{"model":"m",\xff"x":1}',
    "UTF-16": '{"model":"m"}'.encode("utf-16"),
    "two byte order marks": b'\xef\xbb\xbf\xef\xbb\xbf{"model":"m"}',
    "NaN": b'{"model":"m","x":NaN}',
    "Infinity": b'{"model":"m","messages":[Infinity]}',
    "half an escape": b'{"model":"m","x":"\\ud80"}',
    "more after half of a character": b'{"model":"m","x":"\\ud800"} {}',
    "nested lists": b'{"model":"m","x":' + b"[" * DEEP + b"]" * DEEP + b"}",
    "nested objects": b'{"model":"m","messages":' + b'{"a":' * DEEP + b"1" + b"}" * DEEP + b"}",
    "endless nesting": b'{"model":"m","x":' + b"[" * DEEP,
    "more after it": b'{"model":"m"} {}',
    "half a million names": b'{"model":"m",' + b",".join(b'"k%d":1' % n for n in range(500_000)) + b"}",
    "one name many times": b'{"model":"m",' + b",".join([b'"k":1'] * 500_000) + b"}",
}


@pytest.mark.parametrize("body", NO_JSON.values(), ids=NO_JSON)
@pytest.mark.parametrize("path", CHAT_PATHS)
def test_invalid_json_is_refused(path, body):
    assert refusal(path, body).code == "invalid_json"


# Ollama's decoder puts U+FFFD in place of each, Python's takes all but the first two, llama.cpp's the last.
HALVES = {
    "invalid UTF-8": b'{"x":"\xff","model":"m","user":"\xff","messages":[{"role":"user","content":"\xff"}]}',
    "invalid UTF-8 in a name": b'{"\xff":1,"model":"m"}',
    "overlong UTF-8": b'{"x":"\xc0\x80","model":"m"}',
    "lone surrogate": b'{"x":"\\ud800","model":"m"}',
    "lone surrogate before a pair": b'{"x":"\\ud83d\\uD83D\\uDE00","model":"m"}',
    "lone low surrogate": b'{"messages":["\\udc00"],"model":"m","tools":["\\udc00"]}',
    "lone surrogate in a name": b'{"\\ud800":1,"model":"m"}',
    "both, in a long text": b'{"messages":"' + b"a b " * 2000 + b'\\ud83d\xff","model":"m"}',
    "byte order mark": b'\xef\xbb\xbf{"x":"\\ud800","model":"m"}',
}


@pytest.mark.parametrize("body", HALVES.values(), ids=HALVES)
@pytest.mark.parametrize("path", JSON_PATHS)
def test_what_is_no_whole_character_is_for_the_backend_to_judge(path, body):
    assert understood(path, body).model == "m"
    assert replace_model(body, "other") == body.replace(b'"m"', b'"other"')
    assert restore_in_document(body, "m", "other") == body.replace(b'"m"', b'"other"')
    nameless = body.replace(b'"m"', b"null")
    assert insert_model(nameless, "m") == body


@pytest.mark.parametrize(
    "body", [b'{"x":"\\ud800","mod\\u0065l":"b","model":"a"}', b'\xef\xbb\xbf{"model":"a","\xff":1,"MODEL":"b"}']
)
@pytest.mark.parametrize("path", JSON_PATHS)
def test_beside_half_of_a_character_an_ambiguous_model_is_refused_as_well(path, body):
    assert refusal(path, body).param == "model"


@given(st.binary(max_size=40))
def test_what_is_repaired_keeps_its_length(garbage):
    document = b'{"a":"\\ud83d' + garbage + b'"}'

    repaired = as_long_with_whole_characters(document)

    assert len(repaired) == len(document)
    repaired.decode()
    with_whole_characters(document).decode()


WRONG = {
    b"[]": None,
    b'"model"': None,
    b'{"MODEL":"m"}': "model",
    b'{"model":"","Model":"m"}': "model",
    b'{"model":5}': "model",
    b'{"model":["m"]}': "model",
    b'{"model":"a\\u0000b"}': "model",
    b'{"model":"a\\nb"}': "model",
    b'{"model":"\\u202eb"}': "model",
    b'{"model":"a\xff"}': "model",
    b'{"model":"' + b"m" * 1025 + b'"}': "model",
    b'{"model":"m","stream":"yes"}': "stream",
    b'{"model":"m","stream":1}': "stream",
    b'{"model":"a","model":"b"}': "model",
    b'{"model":"a","messages":[],"mod\\u0065l":"b"}': "model",
    b'{"model":"a","MODEL":"b"}': "model",
    b'{"stream":true,"model":"a","\\u0073tream":false}': "stream",
    '{"stream":true,"model":"a","\u017ftream":false}'.encode(): "stream",
    b'{"max_tokens":1,"model":"a","max_tokens":2}': "max_tokens",
    '{"max_tokens":1,"model":"a","max_to\u212aens":2}'.encode(): "max_tokens",
}


@pytest.mark.parametrize(("body", "param"), WRONG.items())
@pytest.mark.parametrize("path", JSON_PATHS)
def test_a_wrong_value_is_refused_with_its_name(path, body, param):
    refused = refusal(path, body)

    assert (refused.status, refused.code, refused.param) == (400, "invalid_value", param)


@pytest.mark.parametrize("number", ["1e400", "-1E+999", "9" * 5000])
@pytest.mark.parametrize("member", ["temperature", "max_tokens", "x", "seed"])
@pytest.mark.parametrize("path", CHAT_PATHS)
def test_a_number_that_some_parsers_refuse_is_refused(path, member, number):
    assert refusal(path, f'{{"model":"m","{member}":{number}}}'.encode()).status == 400
    assert refusal(path, f'{{"{member}":[{{"y":{number}}}],"model":"m"}}'.encode()).status == 400


def test_parameters_that_come_with_another_prompt_are_checked_once():
    _check_members_once.cache_clear()

    for prompt in ("Why?", "Why not?"):
        body = {"model": "m", "seed": 7, "messages": [{"role": "user", "content": prompt}]}
        understood("/v1/chat/completions", json.dumps(body).encode())

    assert _check_members_once.cache_info()[:2] == (1, 1)


def test_parameters_that_are_refused_are_refused_each_time():
    for _ in range(2):
        assert refusal("/v1/chat/completions", b'{"model":"m","stream":true,"stream":false}').param == "stream"


def test_text_that_looks_like_such_a_number_is_not_refused():
    body = {"model": "m", "user": "3e4000", "metadata": {"digits": "9" * 5000, "n": 10**400}}

    assert understood("/v1/chat/completions", json.dumps(body).encode()).model == "m"


STEERING = ["api_base", "base_url", "api_key", "api_version", "extra_headers", "mock_response", "user_config"]
REFUSED = [
    *(("/v1/chat/completions", name) for name in (*STEERING, "fallbacks")),
    *(("/v1/messages", name) for name in STEERING),
]


@pytest.mark.parametrize("value", ["http://127.0.0.1:1", None, {"a": "b"}, ["m"], 5])
@pytest.mark.parametrize(("path", "name"), REFUSED)
def test_a_request_cannot_choose_its_server_or_key(path, name, value):
    refused = refusal(path, json.dumps({"model": "m", name: value}).encode())

    assert (refused.code, refused.param) == ("unsupported_parameter", name)
    assert "127.0.0.1" not in refused.message


@pytest.mark.parametrize(("path", "name"), [("/v1/messages", "fallbacks"), *(("/api/chat", name) for name in STEERING)])
def test_a_member_without_effect_in_this_protocol_is_accepted(path, name):
    body = {"model": "m", "messages": [], name: [{"model": "other"}]}

    assert understood(path, json.dumps(body).encode()).model == "m"


def test_a_nested_member_may_have_any_name():
    body = {"model": "m", "metadata": {"api_key": "x", "model": "y"}, "tools": [{"model": "z", "stream": "w"}]}

    assert understood("/v1/chat/completions", json.dumps(body).encode()).model == "m"


def test_an_error_does_not_quote_the_body():
    canary = "canary-4711"
    bodies = [
        {"model": "m", "api_key": canary},
        {"model": "m", "stream": canary},
        {"model": "m", "n": canary, canary: canary},
        {"model": f"{canary}\n"},
    ]

    messages = [refusal("/v1/chat/completions", json.dumps(body).encode()) for body in bodies]

    assert [
        m for m in messages if canary in m.message or m.__cause__ or (not m.__suppress_context__ and m.__context__)
    ] == []


ABSURD = [
    ("/v1/chat/completions", {"n": 10**6}, "n"),
    ("/v1/completions", {"best_of": 16_385}, "best_of"),
    ("/v1/chat/completions", {"top_logprobs": 10**9}, "top_logprobs"),
    ("/v1/completions", {"logprobs": 10**7}, "logprobs"),
    ("/v1/chat/completions", {"max_tokens": 2**63}, "max_tokens"),
    ("/v1/chat/completions", {"max_completion_tokens": 2**53 + 1}, "max_completion_tokens"),
    ("/v1/responses", {"max_output_tokens": 10**30}, "max_output_tokens"),
    ("/v1/messages", {"max_tokens": 2**63}, "max_tokens"),
    ("/api/chat", {"options": {"num_predict": 2**63}}, "options.num_predict"),
    ("/v1/chat/completions", {"messages": [{}] * 100_001}, "messages"),
    ("/v1/messages", {"messages": [{}] * 100_001}, "messages"),
    ("/api/chat", {"messages": [{}] * 100_001}, "messages"),
    ("/v1/chat/completions", {"tools": [{}] * 100_001}, "tools"),
    ("/v1/completions", {"stop": ["x"] * 100_001}, "stop"),
    ("/v1/completions", {"prompt": ["x"] * 100_001}, "prompt"),
    ("/v1/embeddings", {"input": ["x"] * 100_001}, "input"),
    ("/v1/chat/completions", {"guided_regex": "a" * 2**20}, "guided_regex"),
    ("/v1/chat/completions", {"grammar": "a" * 2**20}, "grammar"),
    ("/v1/chat/completions", {"chat_template": "a" * 2**20}, "chat_template"),
]


@pytest.mark.parametrize(("path", "members", "param"), ABSURD, ids=[f"{path} {param}" for path, _, param in ABSURD])
def test_an_absurd_value_is_refused_with_its_name(path, members, param):
    refused = refusal(path, json.dumps({"model": "m", **members}).encode())

    assert (refused.code, refused.param) == ("invalid_value", param)


@pytest.mark.parametrize(
    "members",
    [
        {"n": 16_384, "max_tokens": 2**53 - 1, "top_logprobs": 150_000, "logprobs": True},
        {"prompt": [1] * 1_000_000},
        {"max_tokens": "100", "max_completion_tokens": -5},
        {"n": None, "max_tokens": None, "temperature": "0.5", "stream": None},
        {"max_tokens": -1, "logprobs": 5},
        {"max_tokens": 100.0},
        {"messages": [{"role": "user", "content": "," * 300_000}]},
        {"messages": [{"role": "user", "content": "x"}] * 100_000},
        {"stream": True, "stream_options": {"include_usage": True}},
    ],
)
def test_an_unusual_but_sensible_value_is_accepted(members):
    assert understood("/v1/chat/completions", json.dumps({"model": "m", **members}).encode()).model == "m"


@pytest.mark.parametrize("model", ["m", "a" * 1024, "org/model:7b-q4_0", "Modell für Ümläute", "模型"])
@pytest.mark.parametrize("path", JSON_PATHS)
def test_a_model_may_have_any_readable_name(path, model):
    bodies = [json.dumps({"model": model}).encode(), json.dumps({"model": model}, ensure_ascii=False).encode()]

    assert [understood(path, body).model for body in bodies] == [model, model]


def understood(path, body):
    endpoint = ENDPOINTS[path]
    return PROTOCOLS[endpoint.protocol].understand(endpoint, body)


def refusal(path, body):
    with pytest.raises(RequestError) as refused:
        understood(path, body)
    return refused.value
