"""A server that does not know a path is told from one that does not have what a request names."""

import pytest

from nexus.wire.errors.unknown_path import names_unknown_path

UNKNOWN = {
    "fastapi": b'{"detail":"Not Found"}',
    "llama.cpp": b'{"error":{"code":404,"message":"File Not Found","type":"not_found_error"}}',
    "go": b"404 page not found",
    "express": b"<!DOCTYPE html><pre>Cannot POST /v1/messages</pre>",
    "lm studio": b'{"error":"Unexpected endpoint or method. (POST /v1/messages)"}',
    "openai": b'{"error":{"message":"Invalid URL (POST /v1/messages)","type":"invalid_request_error"}}',
    "anthropic": b'{"type":"error","error":{"type":"not_found_error","message":"Not Found"}}',
    "empty": b"",
}
NAMED = {
    "a model": b'{"error":{"message":"The model `gpt-9` does not exist","type":"NotFoundError","code":404}}',
    "ollama's model": b'{"error":"model \'x\' not found"}',
    "a response": b'{"error":{"message":"Response with id \'resp_1\' not found.","type":"invalid_request_error"}}',
    "a file": b'{"error":{"message":"No such File object: file-1","type":"invalid_request_error"}}',
    "nothing": b"{}",
}


@pytest.mark.parametrize("body", UNKNOWN.values(), ids=UNKNOWN)
def test_an_unknown_path_is_recognised(body):
    assert names_unknown_path(404, body)
    assert names_unknown_path(405, body)


@pytest.mark.parametrize("body", NAMED.values(), ids=NAMED)
def test_what_a_request_names_is_no_path(body):
    assert not names_unknown_path(404, body)


@pytest.mark.parametrize("status", [200, 400, 401, 422, 500, 501, 503])
def test_other_statuses_say_nothing_of_the_path(status):
    assert not names_unknown_path(status, b"404 page not found")
