"""The kind of an answer, by request, first bytes and label: the whole table."""

import pytest

from nexus.wire.responses.nature import (
    MAX_UNDECIDED_BYTES,
    ExpectedFormat,
    Label,
    Nature,
    error_in,
    label_of,
    nature_of,
)

STREAM = ExpectedFormat(is_stream=True)
PLAIN = ExpectedFormat()
LINES_STREAM = ExpectedFormat(is_stream=True, takes_lines=True)
LINES_PLAIN = ExpectedFormat(takes_lines=True)
SPEECH = ExpectedFormat(may_be_text=True)
ANY_JSON = (STREAM, PLAIN)

LINE = b'{"model":"m","message":{"content":"a"},"done":false}\n'
ONLY_LINE = b'{"model":"m","done":true,"done_reason":"load"}'
PRETTY = b'{\n  "error": {"message": "no"}\n}\n'
LABELS_OF_TEXT = (Label.EVENTS, Label.LINES, Label.JSON, Label.TEXT, Label.PAGE, Label.NONE, Label.UNKNOWN)

TABLE = [
    # Events are events under every label except those of audio and images.
    *((asked, label, start, Nature.EVENTS) for asked in ANY_JSON for label in LABELS_OF_TEXT
      for start in (b"data: {}\n\n", b"event: a\ndata", b"id: 1\n", b"retry: 1\n", b": ping\n\n", b"data:{",
                    b"\n\ndata: a", b"\xef\xbb\xbfdata: a", b"data\n")),
    # An object is a document, whatever its label says.
    *((asked, label, b' {"id":1', Nature.DOCUMENT) for asked in ANY_JSON for label in LABELS_OF_TEXT
      if label is not Label.LINES),
    *((asked, label, b"[1", Nature.DOCUMENT) for asked in ANY_JSON for label in LABELS_OF_TEXT),
    # JSON lines.
    *((asked, label, LINE, Nature.LINES) for asked in (LINES_STREAM, LINES_PLAIN) for label in LABELS_OF_TEXT),
    *((LINES_STREAM, label, ONLY_LINE + b"\n", Nature.DOCUMENT) for label in (Label.JSON, Label.NONE, Label.TEXT)),
    *((LINES_STREAM, label, b'{"error":"no"}\n', Nature.DOCUMENT) for label in (Label.JSON, Label.NONE)),
    (LINES_STREAM, Label.LINES, ONLY_LINE + b"\n", Nature.LINES),
    *((LINES_STREAM, label, PRETTY, Nature.DOCUMENT) for label in LABELS_OF_TEXT),
    *((asked, Label.LINES, LINE + b"{", Nature.LINES) for asked in ANY_JSON),
    *((asked, Label.LINES, b'{"a":1,\n"b":2}', Nature.DOCUMENT) for asked in ANY_JSON),
    # Web pages.
    *((asked, label, start, Nature.PAGE) for asked in ANY_JSON for label in LABELS_OF_TEXT
      for start in (b"<!DOCTYPE html>", b"\n<html lang=", b"<?xml ver")),
    (PLAIN, Label.PAGE, b"404 not found", Nature.PAGE),
    (SPEECH, Label.PAGE, b"<p>", Nature.PAGE),
    # An answer that may be any text is text unless its label differs.
    *((SPEECH, Label.TEXT, start, Nature.DOCUMENT) for start in (b"data: a", b": a", b"<html", b"WEBVTT\n")),
    *((SPEECH, Label.UNKNOWN, start, Nature.OPAQUE) for start in (b": a", b"\x00\x01", b"RIFF")),
    (SPEECH, Label.EVENTS, b"data: {}\n\n", Nature.EVENTS),
    (ExpectedFormat(is_stream=True, may_be_text=True), Label.TEXT, b"data: {}\n\n", Nature.EVENTS),
    # Audio and images may begin with anything.
    *((asked, Label.OPAQUE, start, Nature.OPAQUE) for asked in (*ANY_JSON, SPEECH)
      for start in (b"", b"data: a", b'{"a"', b"<html", b": a")),
    # For anything else, the label decides.
    (STREAM, Label.EVENTS, b"hello", Nature.EVENTS),
    (PLAIN, Label.JSON, b'"hello"', Nature.DOCUMENT),
    (PLAIN, Label.JSON, b"datum", Nature.DOCUMENT),
    (PLAIN, Label.TEXT, b"hello", Nature.DOCUMENT),
    (PLAIN, Label.NONE, b"hello", Nature.DOCUMENT),
    (PLAIN, Label.UNKNOWN, b"hello", Nature.OPAQUE),
    (STREAM, Label.JSON, b" " * MAX_UNDECIDED_BYTES + b"data: a", Nature.DOCUMENT),
]  # fmt: skip


@pytest.mark.parametrize(("asked", "label", "beginning", "nature"), TABLE)
def test_the_nature_of_an_answer(asked, label, beginning, nature):
    assert nature_of(asked, label, beginning) is nature


@pytest.mark.parametrize(
    ("asked", "label", "beginning", "nature"),
    [
        (STREAM, Label.JSON, b"", Nature.DOCUMENT),
        (STREAM, Label.TEXT, b"dat", Nature.DOCUMENT),
        (STREAM, Label.EVENTS, b"\n", Nature.EVENTS),
        (STREAM, Label.JSON, b"<!doc", Nature.DOCUMENT),
        (STREAM, Label.UNKNOWN, b"\xef", Nature.OPAQUE),
        (LINES_STREAM, Label.JSON, b"{", Nature.DOCUMENT),
        (LINES_STREAM, Label.JSON, ONLY_LINE, Nature.DOCUMENT),
        (LINES_STREAM, Label.JSON, LINE[:-1], Nature.DOCUMENT),
        (STREAM, Label.LINES, LINE, Nature.DOCUMENT),
    ],
)
def test_the_label_decides_what_the_whole_body_does_not(asked, label, beginning, nature):
    assert nature_of(asked, label, beginning) is None
    assert nature_of(asked, label, beginning, is_all=True) is nature


@pytest.mark.parametrize(
    ("content_type", "label"),
    [
        (b"", Label.NONE),
        (b"Text/Event-Stream; charset=utf-8", Label.EVENTS),
        (b"application/jsonl", Label.LINES),
        (b"application/problem+json", Label.JSON),
        (b"text/plain", Label.TEXT),
        (b"application/pdf", Label.UNKNOWN),
        (b"video/mp4", Label.OPAQUE),
    ],
)
def test_labels(content_type, label):
    assert label_of(content_type) is label


@pytest.mark.parametrize(
    ("document", "status"),
    [
        (b'{"error":{"message":"no","code":429}}', 429),
        (b'{\n  "id": "r-1",\n  "error" : {"type": "overloaded_error"}\n}', 503),
        (b'{"id":"r-1","created":1,"usage":{"prompt_tokens":3},"choices":[],"error":{"code":500}}', 500),
        (b'{"error":"model is loading"}', 502),
        (b'{"object":"error","message":"no","type":"BadRequestError","param":null,"code":400}', 400),
        (b'{"type":"error","error":{"type":"rate_limit_error","message":"no"},"request_id":"r"}', 429),
        (b'{"type":"error","message":"no"}', 502),
        (b'{"detail":"Not Found"}', 502),
        (b'{"detail":[{"loc":["body"],"msg":"no"}]}', 502),
        (b'[{"error":{"code":400,"message":"no","status":"INVALID_ARGUMENT"}}]', 400),
        (b'{"object":"response","status":"failed","error":{"code":"rate_limit_exceeded"},"output":[]}', 429),
        (b'{"error":true}', 502),
    ],
)
def test_an_error_with_status_200_is_found(document, status):
    assert error_in(document) == status


@pytest.mark.parametrize(
    "document",
    [
        b'{"id":"c-1","choices":[{"message":{"content":"\\"error\\""}}]}',
        b'{"object":"response","error":null,"output":[{"type":"message"}]}',
        b'{"object":"response","error":null,"status":"completed","output":[]}',
        b'{"object":"response","status":"failed","error":{"code":"server_error"},"output":[{"type":"message"}]}',
        b'{"error":{},"choices":[{"text":"a"}]}',
        b'{"error":"","message":{"content":"a"},"done":true}',
        b'{"error":"half of it","response":"a","done":true}',
        b'{"data":[{"embedding":[1]}],"error":{"message":"one of two failed"}}',
        b'{"object":"list","detail":"high"}',
        b'{"created":1,"detail":null,"data":[{}]}',
        b'[{"error":1},{"error":2}]',
        b'{"error":',
        b'"error"',
        b'["error"]',
        b"",
    ],
)
def test_an_answer_is_no_error(document):
    assert error_in(document) is None
