"""The name of the model is replaced on the way to a backend, and put back on the way to the client."""

import msgspec
import pytest

from nexus.proxy.exchange.attempt import Attempt
from nexus.proxy.exchange.rewriting import body_for, event_restorer, restored
from nexus.proxy.headers.from_client import read_head
from nexus.testing.builders import CHAT
from nexus.wire.protocols import ENDPOINTS

EVENTS = (b"Content-Type", b"text/event-stream")


@pytest.fixture
def sent(make_message, make_reserved, make_upstream):
    """The body that a backend is sent which has the model as *model*."""

    def sent(body, requested, model, endpoint=CHAT, content_type="application/json"):
        attempt = Attempt(make_reserved(model=model), make_upstream(), started_at=0.0)
        head = read_head(make_message(("Content-Type", content_type)))
        return body_for(attempt, endpoint, head, body, requested), attempt.is_renamed

    return sent


async def test_a_request_is_renamed_and_nothing_else(sent):
    body = b'{ "model" : "gpt-4o", "x": 1e400, "model2": "gpt-4o" }'

    assert sent(body, "gpt-4o", "llama3") == (b'{ "model" : "llama3", "x": 1e400, "model2": "gpt-4o" }', True)


async def test_a_request_for_the_model_itself_is_left_alone(sent):
    body = b'{"model":"llama3"}'

    assert sent(body, "llama3", "llama3") == (body, False)


async def test_a_form_is_renamed_too(sent):
    endpoint = ENDPOINTS["/v1/audio/transcriptions"]
    body = b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n--b--\r\n'

    renamed, _ = sent(body, "whisper-1", "whisper", endpoint, "multipart/form-data; boundary=b")

    assert renamed == body.replace(b"whisper-1", b"whisper")


@pytest.mark.parametrize(("is_renamed", "expected"), [(True, b'{"model":"gpt-4o"}'), (False, b'{"model":"llama3"}')])
async def test_the_answer_carries_the_name_that_the_client_used(answered, is_renamed, expected):
    attempt = answered(body=b'{"model":"llama3"}')
    attempt.is_renamed = is_renamed

    assert restored(attempt.response.body, attempt, "gpt-4o") == expected


async def test_the_answer_of_a_fallback_names_the_model_that_made_it(answered):
    attempt = answered(body=b'{"model":"llama3"}')
    stream = answered(200, [EVENTS], b"hello\nend\n", wants_stream=True)
    for each in (attempt, stream):
        each.is_renamed = True
        each.reserved = msgspec.structs.replace(each.reserved, fallback_model="llama3")

    assert restored(attempt.response.body, attempt, "retired") == attempt.response.body
    assert event_restorer(stream, "retired") is None


async def test_a_stream_is_left_alone_when_the_name_was(answered):
    attempt = answered(200, [EVENTS], b"hello\nend\n", wants_stream=True)

    assert event_restorer(attempt, "llama3") is None
    attempt.is_renamed = True
    assert event_restorer(attempt, "gpt-4o") is not None


async def test_what_is_no_stream_is_not_searched_for_names(answered):
    attempt = answered(200, [(b"Content-Type", b"audio/mpeg")])
    attempt.is_renamed = True

    assert event_restorer(attempt, "gpt-4o") is None
