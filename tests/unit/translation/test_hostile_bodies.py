"""Bodies of clients that no server could read."""

import json

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


def test_a_call_with_half_of_a_character_is_not_lost():
    ask = b'{"model":"m","messages":[{"role":"user","content":"hi"}]}'
    conversion = convert("openai.chat", "ollama.chat", ask, Target(model="m"), About(model="m", id="1", created=1))
    call = rb'{"function":{"name":"get","arguments":{"a":"\ud83d"}}}'
    answer = b'{"model":"m","done":true,"message":{"tool_calls":[%b]}}' % call

    message = json.loads(conversion.answer(answer))["choices"][0]["message"]

    assert message["tool_calls"][0]["function"]["arguments"] == r'{"a":"\ufffd"}'


def test_arguments_with_half_of_a_character_become_an_object():
    assert as_object(r'{"b":"\uD83D","a":"\\ud83d"}') == r'{"b":"\ufffd","a":"\\ud83d"}'
