"""The model's text in answers of every protocol."""

import json

import pytest

from nexus.wire.protocols import ENDPOINTS, PROTOCOLS


def sse(content):
    return f"data: {json.dumps(content)}\n\n".encode()


def line(content):
    return json.dumps(content).encode() + b"\n"


def delta(**delta):
    return sse({"choices": [{"index": 0, "delta": delta}]})


def text_in(path, *blocks):
    endpoint = ENDPOINTS[path]
    scan, told = PROTOCOLS[endpoint.protocol].open_stream(endpoint), []
    scan.listen(told.append)
    for block in blocks:
        scan.feed(block)
    return "".join(told)


CALL = {"index": 0, "function": {"name": "add", "arguments": "{}"}}


@pytest.mark.parametrize(
    ("path", "block", "text"),
    [
        ("/v1/chat/completions", delta(content="Hi"), "Hi"),
        ("/v1/chat/completions", delta(role="assistant", content=None), ""),
        ("/v1/chat/completions", delta(reasoning_content="so", reasoning="so"), "so"),
        ("/v1/chat/completions", delta(tool_calls=[CALL]), "add{}"),
        ("/v1/chat/completions", delta(content=[{"odd": 1}]), ""),
        ("/v1/chat/completions", b"data: [DONE]\n\n", ""),
        ("/v1/chat/completions", b"data: {broken\n\n", ""),
        ("/v1/completions", sse({"choices": [{"text": " there"}]}), " there"),
        ("/v1/responses", sse({"type": "response.output_text.delta", "delta": "Hi"}), "Hi"),
        ("/v1/responses", sse({"type": "response.output_text.done", "text": "Hi"}), ""),
        ("/v1/responses", sse({"type": "response.audio.delta", "delta": "QUJD"}), ""),
        ("/v1/audio/transcriptions", sse({"type": "transcript.text.delta", "delta": "Hi"}), "Hi"),
        ("/v1/messages", sse({"type": "content_block_delta", "delta": {"type": "text_delta", "text": "Hi"}}), "Hi"),
        ("/v1/messages", sse({"type": "content_block_delta", "delta": {"thinking": "so"}}), "so"),
        ("/v1/messages", sse({"type": "content_block_delta", "delta": {"partial_json": "{}"}}), "{}"),
        ("/v1/messages", sse({"type": "ping"}), ""),
        ("/api/chat", line({"message": {"role": "assistant", "content": "Hi", "thinking": "so"}}), "soHi"),
        ("/api/chat", line({"message": {"tool_calls": [1]}}), "[1]"),
        ("/api/generate", line({"response": "Hi", "done": False}), "Hi"),
    ],
)
def test_the_text_of_a_stream_is_read(path, block, text):
    assert sorted(text_in(path, block)) == sorted(text)


def test_the_text_of_a_cut_event_is_read_when_it_is_complete():
    whole = delta(content="Hello ") + delta(content="there")

    pieces = [whole[at : at + 7] for at in range(0, len(whole), 7)]

    assert text_in("/v1/chat/completions", *pieces) == "Hello there"


@pytest.mark.parametrize(
    ("protocol", "answer", "text"),
    [
        ("openai", {"choices": [{"message": {"content": "Hi", "tool_calls": [CALL]}}]}, "Hiadd{}"),
        ("openai", {"choices": [{"text": "Hi"}]}, "Hi"),
        ("openai", {"output": [{"content": [{"text": "Hi"}]}, {"arguments": "{}"}]}, "Hi{}"),
        ("openai", {"data": []}, ""),
        ("anthropic", {"content": [{"text": "Hi"}, {"thinking": "so"}, {"input": {"a": 1}}]}, 'Hiso{"a":1}'),
        ("ollama", {"message": {"content": "Hi"}}, "Hi"),
        ("ollama", {"response": "Hi"}, "Hi"),
    ],
)
def test_the_text_of_a_whole_answer_is_read(protocol, answer, text):
    assert PROTOCOLS[protocol].text_of(json.dumps(answer).encode()) == text


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("body", [b"", b"\xff", b"[1]", b'{"content": 1, "choices": 2, "message": 3}'])
def test_an_invalid_answer_has_no_text(protocol, body):
    assert PROTOCOLS[protocol].text_of(body) == ""
