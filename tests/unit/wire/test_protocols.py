"""What all protocols have in common."""

import pytest

from nexus.fleet.kinds import PROTOCOL_ENDPOINTS
from nexus.wire.protocols import ENDPOINTS, EVERY, PROTOCOLS


def test_each_protocol_is_found_by_its_name():
    assert [PROTOCOLS[name].name for name in ("openai", "ollama", "anthropic")] == ["openai", "ollama", "anthropic"]


def test_no_two_endpoints_share_a_name_or_within_a_protocol_a_method_and_a_path():
    places = [(e.protocol, method, path) for e in EVERY for method in e.methods for path in (e.path, *e.also)]

    assert len({endpoint.name for endpoint in EVERY}) == len(EVERY)
    assert len(set(places)) == len(places)


def test_all_endpoints_of_backends_can_be_called():
    spoken = frozenset().union(*PROTOCOL_ENDPOINTS.values())

    assert spoken == {endpoint.name for endpoint in EVERY}


def test_an_endpoint_belongs_to_the_protocol_that_it_is_named_after():
    assert [e.name for p in PROTOCOLS.values() for e in p.endpoints if not e.name.startswith(f"{p.name}.")] == []
    assert [e.name for p in PROTOCOLS.values() for e in p.endpoints if e.protocol != p.name] == []


@pytest.mark.parametrize(
    ("path", "body", "is_complete"),
    [
        ("/v1/chat/completions", b'{"a":1} \n', True),
        ("/v1/chat/completions", b'{"a":1', False),
        ("/v1/chat/completions", b"", False),
        ("/v1/embeddings", b'{"data":[{"embedding":[0.1,', False),
        ("/api/chat", b'{"done":true}', True),
        ("/v1/messages", b'{"type":"mess', False),
        ("/v1/audio/speech", b"ID3\x00", True),
        ("/v1/audio/transcriptions", b"just text", True),
        ("/v1/audio/transcriptions", b'{"text":"ju', False),
        ("/v1/audio/transcriptions", b"", False),
    ],
)
def test_a_truncated_document_is_recognised(path, body, is_complete):
    endpoint = ENDPOINTS[path]

    assert PROTOCOLS[endpoint.protocol].looks_complete(endpoint, body) is is_complete


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("/v1/chat/completions", b'{"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}', (3, 4)),
        ("/v1/embeddings", b'{"data":[],"usage":{"prompt_tokens":3,"total_tokens":3}}', (3, 0)),
        ("/v1/responses", b'{"usage":{"input_tokens":3,"output_tokens":4}}', (3, 4)),
        ("/v1/audio/transcriptions", b'{"usage":{"type":"duration","seconds":3}}', None),
        ("/v1/messages", b'{"usage":{"input_tokens":3,"cache_read_input_tokens":2,"output_tokens":4}}', (5, 4)),
        ("/api/chat", b'{"done":true,"prompt_eval_count":3,"eval_count":4}', (3, 4)),
        ("/api/embed", b'{"prompt_eval_count":3}', (3, 0)),
        ("/api/generate", b'{"done":true,"done_reason":"load"}', (0, 0)),
        ("/api/chat", b'{"done":true,"done_reason":"unload"}', (0, 0)),
        ("/api/chat", b'{"done":true,"done_reason":"stop"}', None),
        ("/api/chat", b'{"done":true,"done_reason":["load"]}', None),
        ("/v1/chat/completions", b'{"usage":null}', None),
        ("/v1/chat/completions", b'{"usage":{"prompt_tokens":-3}}', None),
        ("/v1/chat/completions", b'{"usage":{"prompt_tokens":1e12}}', None),
        ("/v1/chat/completions", b'{"usage":"much"}', None),
        ("/v1/chat/completions", b"<html>", None),
        ("/v1/messages", b"[]", None),
        ("/api/chat", b"{}", None),
    ],
)
def test_a_plausible_usage_of_a_whole_answer_is_read(path, body, expected):
    usage = PROTOCOLS[ENDPOINTS[path].protocol].usage_of(body)

    assert (usage and (usage.prompt_tokens, usage.completion_tokens)) == expected


def test_a_stream_s_content_type_is_its_protocol_s():
    types = {name: protocol.stream_type for name, protocol in PROTOCOLS.items()}

    assert types == {
        "openai": "text/event-stream",
        "ollama": "application/x-ndjson",
        "anthropic": "text/event-stream",
    }
