"""Errors of backends and for clients."""

import json

import pytest

from nexus.translation.events import Failure
from nexus.translation.openai import DIALECT


@pytest.mark.parametrize(
    ("body", "message", "code"),
    [
        (
            {"error": {"message": "bad key", "type": "invalid_request_error", "code": "invalid_api_key"}},
            "bad key",
            "invalid_api_key",
        ),
        ({"error": {"message": "bad", "type": "BadRequestError", "code": 400}}, "bad", "BadRequestError"),
        (
            [{"error": {"code": 400, "message": "no signature", "status": "INVALID_ARGUMENT"}}],
            "no signature",
            "INVALID_ARGUMENT",
        ),
        (
            {"object": "error", "message": "too long", "type": "BadRequestError", "code": 400},
            "too long",
            "BadRequestError",
        ),
        ({"error": "model not found"}, "model not found", ""),
        ({"detail": [{"loc": ["body"], "msg": "Field required"}, {"msg": "Extra"}]}, "Field required; Extra", ""),
        ({"detail": "Not Found"}, "Not Found", ""),
    ],
)
def test_an_error_is_read_wherever_the_server_puts_it(body, message, code):
    assert Failure(400, message, code) == DIALECT.decode_error(400, json.dumps(body).encode())


@pytest.mark.parametrize("body", [b"", b"{}", b"null", b"[]", b'{"error":{}}', b'{"error":null}', b"3"])
def test_an_error_without_a_text_has_one(body):
    failure = DIALECT.decode_error(502, body)

    assert failure.status == 502
    assert failure.message


def test_a_page_as_an_error_is_shown_safely():
    assert DIALECT.decode_error(502, b"<html>\x00\xff</html>").message.isprintable()


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (404, "not_found_error"),
        (429, "rate_limit_error"),
        (503, "server_error"),
    ],
)
def test_an_error_is_written_as_openai_writes_it(status, kind):
    error = {"message": "no", "type": kind, "param": None, "code": "c"}

    assert {"error": error} == json.loads(DIALECT.encode_error(Failure(status, "no", "c"), "id"))


def test_an_error_in_many_brackets_is_read_as_far_as_it_makes_sense():
    body = b'{"error":{"message":' + b"[" * 900 + b'"busy"' + b"]" * 900 + b"}}"

    assert DIALECT.decode_error(500, body) == Failure(500, "the backend answered with status 500")
