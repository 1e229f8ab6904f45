"""Streams are converted into documents, and documents into streams."""

import json

import pytest

from nexus.wire.protocols import ENDPOINTS, PROTOCOLS
from nexus.wire.streams.event import Event
from nexus.wire.streams.merging import MAX_PARTS, joined, merge
from tests.support.dialects import ANTHROPIC, CHAT, DIALECTS, OLLAMA

CALL = {"id": "call-1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
HEAD = {"id": "c-1", "object": "chat.completion", "created": 1, "model": "m"}
PART = {"type": "output_text", "text": "Hello", "annotations": []}
DOCUMENTS = {
    "/v1/chat/completions": {
        **HEAD,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello", "reasoning_content": "hm"},
                "logprobs": {"content": [{"token": "Hello", "logprob": -0.5}]},
                "finish_reason": "stop",
            },
            {
                "index": 1,
                "message": {"role": "assistant", "content": None, "tool_calls": [CALL, {**CALL, "id": "call-2"}]},
                "logprobs": None,
                "finish_reason": "tool_calls",
            },
        ],
        "usage": USAGE,
        "system_fingerprint": "fp",
    },
    "/v1/completions": {
        **HEAD,
        "object": "text_completion",
        "choices": [{"index": 0, "text": "Hello", "logprobs": None, "finish_reason": "length"}],
        "usage": USAGE,
    },
    "/v1/responses": {
        "id": "r-1",
        "object": "response",
        "model": "m",
        "status": "incomplete",
        "error": None,
        "output": [
            {"id": "i-1", "type": "reasoning", "summary": []},
            {"id": "i-2", "type": "message", "role": "assistant", "content": [PART]},
            {"id": "i-3", "type": "function_call", "call_id": "call-1", "name": "f", "arguments": "{}"},
        ],
        "usage": {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5},
    },
    "/v1/messages": {
        "id": "m-1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [
            {"type": "thinking", "thinking": "hm", "signature": "s"},
            {"type": "text", "text": "Hello"},
            {"type": "tool_use", "id": "t-1", "name": "f", "input": {"a": [1, {"b": None}]}},
            {"type": "tool_use", "id": "t-2", "name": "g", "input": {}},
            {"type": "redacted_thinking", "data": "x"},
        ],
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "usage": {"input_tokens": 3, "output_tokens": 2},
    },
    "/v1/audio/transcriptions": {"text": "Hello", "usage": {"input_tokens": 3, "output_tokens": 2}},
}


def as_stream(path, document):
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return PROTOCOLS[ENDPOINTS[path].protocol].as_stream(ENDPOINTS[path], body)


def opened(path):
    protocol = PROTOCOLS[ENDPOINTS[path].protocol]
    return protocol.open_stream(ENDPOINTS[path]), protocol.collector(ENDPOINTS[path])


def collected(path, stream):
    scan, collector = opened(path)
    scan.show(collector.add)
    scan.feed(stream)
    document = collector.document()
    return None if document is None else json.loads(document)


def chunks(*deltas, **more):
    events = [
        {**HEAD, "object": "chat.completion.chunk", "choices": [{"index": 0, **delta}], **more} for delta in deltas
    ]
    return b"".join(b"data: %b\n\n" % json.dumps(event).encode() for event in events)


@pytest.mark.parametrize("path", DOCUMENTS)
def test_a_document_survives_being_streamed_and_collected(path):
    assert collected(path, as_stream(path, DOCUMENTS[path])) == DOCUMENTS[path]


@pytest.mark.parametrize("path", DOCUMENTS)
def test_the_stream_of_a_document_is_complete_and_has_its_usage(path):
    scan, _ = opened(path)
    stream = as_stream(path, DOCUMENTS[path])

    assert scan.feed(stream) == stream
    assert (scan.has_content, scan.is_finished(), scan.has_error, scan.closing()) == (True, True, False, b"")
    assert scan.usage().prompt_tokens == 3


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_the_streams_of_servers_are_collected(dialect):
    document = collected(dialect.path, b"".join(dialect.events))

    if dialect is CHAT:
        assert document["choices"] == [
            {"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}
        ]
    elif dialect is ANTHROPIC:
        assert document["content"] == [{"type": "text", "text": "Hello"}]
    elif dialect is OLLAMA:
        assert (document["message"]["content"], document["done"]) == ("Hello", True)
    else:
        assert document["object"] == "response"


def test_the_arguments_of_tool_calls_are_merged():
    first = {"index": 0, "id": "call-1", "type": "function", "function": {"name": "f", "arguments": ""}}
    stream = chunks(
        {"delta": {"role": "assistant", "content": None, "tool_calls": [first]}},
        {"delta": {"tool_calls": [{"index": 0, "function": {"arguments": '{"a"'}}]}},
        {"delta": {"tool_calls": [{"index": 1, "id": "call-2", "function": {"name": "g", "arguments": "{}"}}]}},
        {"delta": {"tool_calls": [{"index": 0, "function": {"arguments": ": 1}"}}]}},
        {"delta": {}, "finish_reason": "tool_calls"},
    )

    (choice,) = collected(CHAT.path, stream)["choices"]

    assert choice["message"]["tool_calls"] == [CALL, {"id": "call-2", "function": {"name": "g", "arguments": "{}"}}]
    assert choice["finish_reason"] == "tool_calls"


def test_the_calls_of_ollama_are_all_kept():
    call = {"function": {"name": "f", "arguments": {"a": 1}}}
    lines = [
        {"message": {"role": "assistant", "content": "", "thinking": "hm", "tool_calls": [call]}, "done": False},
        {"message": {"role": "assistant", "content": "", "thinking": "!", "tool_calls": [call]}, "done": False},
        {"message": {"role": "assistant", "content": ""}, "done": True, "eval_count": 5},
    ]

    document = collected(OLLAMA.path, b"".join(json.dumps(line).encode() + b"\n" for line in lines))

    message = {"role": "assistant", "content": "", "thinking": "hm!", "tool_calls": [call, call]}
    assert document == {"message": message, "done": True, "eval_count": 5}


ARGUMENTS = '{"z": 2.50, "a": [1E+2, "\\u00e4\\/", 12345678901234567890123]}'


def test_arguments_keep_their_bytes_in_a_document_of_anthropics_api():
    half = len(ARGUMENTS) // 2
    _, collector = opened("/v1/messages")
    begun = {"type": "tool_use", "id": "t", "name": "f", "input": {}}
    for name, content in [
        ("message_start", {"message": {"id": "m", "content": []}}),
        ("content_block_start", {"index": 0, "content_block": begun}),
        *(
            ("content_block_delta", {"index": 0, "delta": {"type": "input_json_delta", "partial_json": part}})
            for part in (ARGUMENTS[:half], ARGUMENTS[half:])
        ),
    ]:
        collector.add(Event(name.encode(), json.dumps({"type": name, **content}).encode()))
    whole = b'{"index":1,"content_block":{"type":"tool_use","input":%b}}' % ARGUMENTS.encode()
    collector.add(Event(b"content_block_start", whole))

    assert collector.document().count(ARGUMENTS.encode()) == 2


def test_arguments_that_were_cut_short_are_none():
    _, collector = opened("/v1/messages")
    collector.add(Event(b"message_start", b'{"message":{"id":"m"}}'))
    collector.add(Event(b"content_block_delta", b'{"index":0,"delta":{"type":"x","partial_json":"{\\"a\\": 1"}}'))

    assert json.loads(collector.document())["content"] == [{"input": {}}]


def test_arguments_keep_their_bytes_in_a_stream_of_anthropics_api():
    block = b'{"type":"tool_use","id":"t","name":"f","input":%b}' % ARGUMENTS.encode()

    stream = PROTOCOLS["anthropic"].as_stream(ENDPOINTS["/v1/messages"], b'{"content":[%b]}' % block)

    assert json.dumps(ARGUMENTS).encode() in stream


def test_arguments_keep_their_bytes_in_a_document_of_ollama():
    _, collector = opened("/api/chat")
    for name in (b"f", b"g"):
        call = b'{"function":{"name":"%b","arguments":%b}}' % (name, ARGUMENTS.encode())
        collector.add(Event(b"", b'{"message":{"content":"a","tool_calls":[%b]},"done":false}' % call))
    collector.add(Event(b"", b'{"message":{"content":"","tool_calls":null},"done":true}'))

    document = collector.document()

    assert document.count(ARGUMENTS.encode()) == 2
    assert json.loads(document)["message"]["content"] == "aa"


def test_other_numbers_keep_their_digits():
    chunk = b'{"choices":[{"index":0,"delta":{"content":"a"},"logprobs":{"content":[{"logprob":-0.50}]}}]}'

    _, collector = opened("/v1/chat/completions")
    collector.add(Event(b"", chunk))

    document = collector.document()
    assert b'"logprob":-0.50' in document
    assert b'"logprob":-0.50' in as_stream("/v1/chat/completions", document)


def test_only_final_images_are_kept():
    events = [
        {"type": "image_generation.partial_image", "b64_json": "aa"},
        {"type": "image_generation.completed", "b64_json": "bb", "created_at": 1, "usage": {"input_tokens": 1}},
    ]
    stream = b"".join(b"data: %b\n\n" % json.dumps(event).encode() for event in events)

    document = collected("/v1/images/generations", stream)

    assert document == {"created": 1, "usage": {"input_tokens": 1}, "data": [{"b64_json": "bb"}]}


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/audio/speech", "/api/embed", "/v1/messages/count_tokens"])
def test_some_answers_are_not_converted(path):
    protocol, endpoint = PROTOCOLS[ENDPOINTS[path].protocol], ENDPOINTS[path]

    assert protocol.collector(endpoint) is None
    assert protocol.as_stream(endpoint, b'{"data":[1],"content":[]}') is None


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'"a"', b"{}", b'{"choices":[1],"content":[1],"output":1}', b"\xff"]
)
def test_an_invalid_document_makes_no_stream(dialect, body):
    assert as_stream(dialect.path, body) is None


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
@pytest.mark.parametrize(
    "content", [b"", b"{", b"1", b"[]", b'{"choices":1}', b'{"choices":[1]}', b'{"type":"message_start","message":1}']
)
def test_unreadable_events_are_skipped(dialect, content):
    _, collector = opened(dialect.path)

    collector.add(Event(b"", content))

    assert collector.document() is None or isinstance(json.loads(collector.document()), dict)


def test_a_single_line_of_ollama_stays_as_it_is():
    assert as_stream(OLLAMA.path, b'{"model":"m","done":true,"done_reason":"load"}') is None


def test_a_pretty_printed_document_becomes_one_line():
    document = {"model": "m", "message": {"content": "a\nb"}, "done": True}

    line = as_stream(OLLAMA.path, json.dumps(document, indent=2).encode() + b"\n")

    assert (line.count(b"\n"), line[-1:], json.loads(line)) == (1, b"\n", document)


def test_texts_grow_without_being_copied_each_time():
    whole = {}
    for _ in range(3):
        merge(whole, {"content": "ab", "role": "assistant", "n": 1})

    assert joined(whole) == {"content": "ababab", "role": "assistant", "n": 1}


def test_a_list_of_parts_has_a_limit():
    whole = {}
    merge(whole, {"parts": [{"index": number} for number in range(MAX_PARTS + 5)]})

    assert len(whole["parts"]) == MAX_PARTS


def test_a_list_of_parts_after_a_text_replaces_it():
    whole = {}
    merge(whole, {"content": "Hel"})
    merge(whole, {"content": [None]})

    assert joined(whole) == {"content": [None]}


def test_a_response_without_its_items_gets_those_that_were_streamed():
    """As LM Studio and the backend of ChatGPT end a stream."""
    call = {"type": "function_call", "call_id": "c", "name": "get", "arguments": '{"b":2.50,"a":1}'}
    text = {"type": "message", "content": [{"type": "output_text", "text": "hi"}]}
    _, collector = opened("/v1/responses")
    for event in (
        {"type": "response.output_item.done", "output_index": 1, "item": call},
        {"type": "response.output_item.done", "output_index": 0, "item": text},
        {"type": "response.completed", "response": {"id": "r", "output": [], "usage": {"input_tokens": 3}}},
    ):
        collector.add(Event(b"", json.dumps(event).encode()))

    assert json.loads(collector.document()) == {"id": "r", "output": [text, call], "usage": {"input_tokens": 3}}
