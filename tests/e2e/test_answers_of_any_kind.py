"""Real client libraries get an answer from servers that label, stream and fail in their own ways."""

import time

import openai
import pytest

from nexus.simulator import ErrorInSuccess, Heartbeats, IgnoreStream, Mislabel
from nexus.testing.fleets import table_of

QUESTION = [{"role": "user", "content": "hello"}]
LABELS = ["application/json", "text/plain; charset=utf-8", "application/octet-stream", ""]
PICTURE_BYTES = 20 * 1024 * 1024


def ask_chat(fleet, openai_client, *, stream):
    if not stream:
        return openai_client.chat.completions.create(model="llama3", messages=QUESTION).choices[0].message.content
    chunks = openai_client.chat.completions.create(model="llama3", messages=QUESTION, stream=True)
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def ask_responses(fleet, openai_client, *, stream):
    if not stream:
        return openai_client.responses.create(model="llama3", input="hello").output_text
    with openai_client.responses.stream(model="llama3", input="hello") as events:
        return "".join(event.delta for event in events if event.type == "response.output_text.delta")


def ask_anthropic(fleet, anthropic_client, *, stream):
    asked = {"model": "qwen3", "max_tokens": 16, "messages": QUESTION}
    if not stream:
        return anthropic_client.messages.create(**asked).content[0].text
    with anthropic_client.messages.stream(**asked) as events:
        return events.get_final_text()


def ask_ollama(fleet, ollama_client, *, stream):
    if not stream:
        return ollama_client.chat("gemma", QUESTION).message.content
    return "".join(part.message.content for part in ollama_client.chat("gemma", QUESTION, stream=True))


ASKERS = {
    "openai chat": (ask_chat, "openai_client", "llama3"),
    "openai responses": (ask_responses, "openai_client", "llama3"),
    "anthropic": (ask_anthropic, "anthropic_client", "qwen3"),
    "ollama": (ask_ollama, "ollama_client", "gemma"),
}


@pytest.fixture(params=ASKERS)
def ask(request, fleet):
    """Ask with a client library, and return what the model said; the server behind it is given first."""
    asker, client, model = ASKERS[request.param]
    return fleet.having(model), lambda *, stream: asker(fleet, request.getfixturevalue(client), stream=stream)


@pytest.mark.parametrize("label", LABELS)
def test_a_stream_is_read_under_any_label(ask, label):
    server, words = ask
    plain = words(stream=True)
    server.faults.set(Mislabel(content_type=label))

    assert words(stream=True) == plain


def test_a_server_that_always_streams_answers_who_wants_a_document(ask):
    server, words = ask
    plain = words(stream=False)
    server.faults.set(IgnoreStream(streams=True))

    assert words(stream=False) == plain


def test_a_server_that_never_streams_answers_who_wants_a_stream(ask):
    server, words = ask
    plain = words(stream=False)
    server.faults.set(IgnoreStream(streams=False))

    assert words(stream=True) == plain


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "plain"])
@pytest.mark.parametrize("shape", ["object", "printed", "text", "flat", "anthropic", "detail"])
def test_an_error_with_status_200_is_no_answer(simulate, start_nexus, shape, stream):
    broken, steady = simulate(name="broken"), simulate(name="steady")
    broken.faults.set(ErrorInSuccess(shape=shape))
    nexus = start_nexus(table_of(broken, priority=1) + table_of(steady, priority=90))
    with openai.OpenAI(base_url=f"{nexus.url}/v1", api_key="unused", max_retries=0) as client:
        words = ask_chat(None, client, stream=stream)

    assert words.startswith("steady:")


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "plain"])
def test_an_error_with_status_200_raises_when_there_is_no_other(simulate, start_nexus, stream):
    broken = simulate(name="broken")
    broken.faults.set(ErrorInSuccess())
    nexus = start_nexus(table_of(broken))

    with (
        openai.OpenAI(base_url=f"{nexus.url}/v1", api_key="unused", max_retries=0) as client,
        pytest.raises(openai.InternalServerError, match="the engine broke"),
    ):
        ask_chat(None, client, stream=stream)


def test_a_picture_of_twenty_mebibytes_is_streamed(simulate, start_nexus):
    painter = simulate(picture_bytes=PICTURE_BYTES, models=("painter",))
    nexus = start_nexus(table_of(painter, type="generic"))
    with openai.OpenAI(base_url=f"{nexus.url}/v1", api_key="unused", max_retries=0) as client:
        events = list(client.images.generate(model="painter", prompt="a cat", stream=True))

    assert [event.type for event in events] == ["image_generation.partial_image", "image_generation.completed"]
    assert len(events[-1].b64_json) == PICTURE_BYTES


def test_an_event_beyond_the_limit_is_refused_by_name(simulate, start_nexus):
    painter = simulate(picture_bytes=200_000, models=("painter",))
    nexus = start_nexus("[limits]\nmax_event_bytes = 100_000\n" + table_of(painter, type="generic"))
    with (
        openai.OpenAI(base_url=f"{nexus.url}/v1", api_key="unused", max_retries=0) as client,
        pytest.raises(openai.APIError) as failed,
    ):
        list(client.images.generate(model="painter", prompt="a cat", stream=True))

    assert failed.value.code == "event_too_large"


def test_heartbeats_of_a_long_prefill_reach_the_client_and_keep_the_stream(simulate, start_nexus):
    slow = simulate(models=("llama3",))
    slow.faults.set(Heartbeats(for_s=3.0, interval_s=0.2))
    nexus = start_nexus("[timeouts]\nstream_idle_seconds = 1\n" + table_of(slow))
    began = time.monotonic()
    with openai.OpenAI(base_url=f"{nexus.url}/v1", api_key="unused", max_retries=0, timeout=2.0) as client:
        # Its own patience is two seconds without a byte: only the comments make it wait for three.
        words = ask_chat(None, client, stream=True)

    assert words.startswith("gpu-1:")
    assert time.monotonic() - began >= 2.9
