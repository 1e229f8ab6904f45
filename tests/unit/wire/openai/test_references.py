"""References in a request to things that one backend keeps."""

import json

import pytest

from nexus.wire.kept.references import MAX_REFERENCES
from nexus.wire.protocols import EVERY, PROTOCOLS

ENDPOINTS = {endpoint.name: endpoint for endpoint in EVERY}


def references(name, **members):
    endpoint = ENDPOINTS[name]
    body = json.dumps({"model": "m", **members}).encode()
    return [(found.id, found.param) for found in PROTOCOLS[endpoint.protocol].understand(endpoint, body).references]


PART = {"role": "user", "content": [{"type": "input_file", "file_id": "file-1"}]}


@pytest.mark.parametrize(
    ("name", "members", "found"),
    [
        ("openai.responses", {"previous_response_id": "resp_1"}, [("resp_1", "previous_response_id")]),
        ("openai.responses", {"previous_response_id": None}, []),
        ("openai.responses", {"previous_response_id": 5}, []),
        ("openai.responses", {"previous_response_id": "x" * 257}, []),
        ("openai.responses", {"conversation": "conv_1"}, [("conv_1", "conversation")]),
        ("openai.responses", {"conversation": {"id": "conv_1"}}, [("conv_1", "conversation")]),
        ("openai.responses", {"input": [PART]}, [("file-1", "file_id")]),
        ("openai.responses", {"input": 'say "file_id": "file-1"'}, []),
        (
            "openai.responses",
            {"tools": [{"type": "code_interpreter", "container": {"file_ids": ["file-1", "file-2"]}}]},
            [("file-1", "file_ids"), ("file-2", "file_ids")],
        ),
        ("openai.chat", {"messages": [{"role": "user", "content": [{"file": {"file_id": "f"}}]}]}, [("f", "file_id")]),
        ("openai.batch_create", {"input_file_id": "file-1"}, [("file-1", "input_file_id")]),
        ("openai.embeddings", {"previous_response_id": "resp_1"}, []),
        (
            "anthropic.messages",
            {"messages": [{"role": "user", "content": [{"source": {"type": "file", "file_id": "file_1"}}]}]},
            [("file_1", "file_id")],
        ),
    ],
)
def test_all_references_in_a_body_are_found(name, members, found):
    assert references(name, **members) == found


def test_the_number_of_references_is_bounded():
    many = [{"file_id": f"file-{number}"} for number in range(1000)]

    assert len(references("openai.responses", input=[{"role": "user", "content": many}])) == MAX_REFERENCES


@pytest.mark.parametrize(
    ("name", "store", "is_kept"),
    [
        ("openai.responses", None, True),
        ("openai.responses", False, False),
        ("openai.chat", None, False),
        ("openai.chat", True, True),
        ("openai.embeddings", True, False),
    ],
)
def test_an_answer_is_kept_by_its_api_s_default(name, store, is_kept):
    endpoint = ENDPOINTS[name]
    members = {} if store is None else {"store": store}

    understood = PROTOCOLS["openai"].understand(endpoint, json.dumps({"model": "m", **members}).encode())

    assert understood.is_kept is is_kept
