"""Errors of engines and gateways that have the path of an API, but not the shape of its errors."""

import pytest

from nexus.translation.dialects import DIALECTS
from nexus.translation.error_texts import text_in

ELSEWHERE = {
    "FastAPI": (b'{"detail":"no such path"}', "no such path"),
    "FastAPI's details": (
        b'{"detail":[{"loc":["body"],"msg":"no"},{"loc":["body","tools",0],"msg":"bad"}]}',
        "no; tools.0: bad",
    ),
    "Google": (b'[{"error":{"code":429,"message":"slow down","status":"RESOURCE_EXHAUSTED"}}]', "slow down"),
    "gRPC": (b'{"code":3,"message":"bad argument","details":[]}', "bad argument"),
    "text": (b'{"error":"no slot"}', "no slot"),
    "list": (b'{"error":{"message":["no slot"]}}', "no slot"),
    "beside it": (b'{"error":null,"message":"no slot"}', "no slot"),
}


@pytest.mark.parametrize(("body", "text"), ELSEWHERE.values(), ids=ELSEWHERE)
@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS)
def test_an_error_is_read_wherever_it_is(dialect, body, text):
    assert dialect.decode_error(400, body).message == text


def test_what_says_nothing_has_no_text():
    assert text_in(b"<html>") == text_in(b"{}") == text_in(b"[null, 1]") == ""
