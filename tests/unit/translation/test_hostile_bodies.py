"""Bodies of clients that no server could read."""

import json
import re

import pytest

from nexus.errors import RequestError
from nexus.translation.conversion import About
from nexus.translation.dialect import Target
from nexus.translation.dialects import convert, translations
from nexus.translation.tool_arguments import as_object

PAIRS = [(client, backend) for client, backends in translations().items() for backend in backends]
BODIES = {
    "empty": b"",
    "no object": b"[]",
    "null": b"null",
    "half": b'{"model":"m",',
    "not a number": b'{"model":NaN}',
    "deep": b'{"model":"m","messages":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
@pytest.mark.parametrize(("client", "backend"), PAIRS)
def test_a_body_that_nothing_could_read_is_refused(client, backend, body):
    with pytest.raises(RequestError) as refusal:
        convert(client, backend, body, Target(model="m"), About(model="m", id="1", created=1))

    assert refusal.value.code in ("invalid_json", "invalid_value")


HALVES = {
    "surrogate": (rb"\ud83d", "\ufffd"),
    "surrogate before a pair": (rb"\udc00\uD83D\uDE00", "\ufffd\U0001f600"),
    "no UTF-8": (b"\xe9", "\ufffd"),
    "both": (b"\xe9\\uD800", "\ufffd\ufffd"),
    "escaped": (rb"\\ud83d", r"\ud83d"),
}


@pytest.mark.parametrize(("given", "sent"), HALVES.values(), ids=HALVES)
@pytest.mark.parametrize(("client", "backend"), PAIRS)
def test_what_is_no_whole_character_is_replaced(client, backend, given, sent):
    schema = b'{"type":"object","properties":{"a":{"description":"(%b)"}}}' % given
    tool = b'"name":"f","parameters":%b,"input_schema":%b' % (schema, schema)
    function = b'{"type":"function","function":{%b},%b}' % (tool, tool)
    tools = b"[{%b}]" % tool if client == "anthropic.messages" else b"[%b]" % function
    text = b'"messages":[{"role":"user","content":"(%b)"}],"input":"(%b)"' % (given, given)
    text += b',"prompt":"(%b)"' % given if client.startswith("ollama") else b""
    body = b'\xef\xbb\xbf{"model":"m",%b,"tools":%b,"(%b)":1}' % (text, tools, given)

    conversion = convert(client, backend, body, Target(model="m"), About(model="m", id="1", created=1))

    texts = re.findall(r"\(.*?\)", _all_text(json.loads(conversion.body)))
    assert texts
    assert {f"({sent})"} == set(texts)


def _all_text(value):
    if isinstance(value, dict):
        return " ".join(map(_all_text, value.values()))
    return " ".join(map(_all_text, value)) if isinstance(value, list) else str(value)


def test_a_call_with_half_of_a_character_is_not_lost():
    ask = b'{"model":"m","messages":[{"role":"user","content":"hi"}]}'
    conversion = convert("openai.chat", "ollama.chat", ask, Target(model="m"), About(model="m", id="1", created=1))
    call = rb'{"function":{"name":"get","arguments":{"a":"\ud83d"}}}'
    answer = b'{"model":"m","done":true,"message":{"tool_calls":[%b]}}' % call

    message = json.loads(conversion.answer(answer))["choices"][0]["message"]

    assert message["tool_calls"][0]["function"]["arguments"] == r'{"a":"\ufffd"}'


def test_arguments_with_half_of_a_character_become_an_object():
    assert as_object(r'{"b":"\uD83D","a":"\\ud83d"}') == r'{"b":"\ufffd","a":"\\ud83d"}'
