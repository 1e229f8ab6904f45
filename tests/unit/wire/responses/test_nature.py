"""The kind of an answer, by request, first bytes and label: the whole table."""

import pytest

from nexus.wire.responses.nature import (
    MAX_UNDECIDED_BYTES,
    ExpectedFormat,
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
LABELS_OF_TEXT = ("events", "lines", "json", "text", "page", "none", "unknown")

TABLE = [
    # Events are events under every label except those of audio and images.
    *((asked, label, start, "events") for asked in ANY_JSON for label in LABELS_OF_TEXT
      for start in (b"data: {}\n\n", b"event: a\ndata", b"id: 1\n", b"retry: 1\n", b": ping\n\n", b"data:{",
                    b"\n\ndata: a", b"\xef\xbb\xbfdata: a", b"data\n")),
    # An object is a document, whatever its label says.
    *((asked, label, b' {"id":1', "document") for asked in ANY_JSON for label in LABELS_OF_TEXT
      if label != "lines"),
    *((asked, label, b"[1", "document") for asked in ANY_JSON for label in LABELS_OF_TEXT),
    # JSON lines.
    *((asked, label, LINE, "lines") for asked in (LINES_STREAM, LINES_PLAIN) for label in LABELS_OF_TEXT),
    *((LINES_STREAM, label, ONLY_LINE + b"\n", "document") for label in ("json", "none", "text")),
    *((LINES_STREAM, label, b'{"error":"no"}\n', "document") for label in ("json", "none")),
    (LINES_STREAM, "lines", ONLY_LINE + b"\n", "lines"),
    *((LINES_STREAM, label, PRETTY, "document") for label in LABELS_OF_TEXT),
    *((asked, "lines", LINE + b"{", "lines") for asked in ANY_JSON),
    *((asked, "lines", b'{"a":1,\n"b":2}', "document") for asked in ANY_JSON),
    # Web pages.
    *((asked, label, start, "page") for asked in ANY_JSON for label in LABELS_OF_TEXT
      for start in (b"<!DOCTYPE html>", b"\n<html lang=", b"<?xml ver")),
    (PLAIN, "page", b"404 not found", "page"),
    (SPEECH, "page", b"<p>", "page"),
    # An answer that may be any text is text unless its label differs.
    *((SPEECH, "text", start, "document") for start in (b"data: a", b": a", b"<html", b"WEBVTT\n")),
    *((SPEECH, "unknown", start, "opaque") for start in (b": a", b"\x00\x01", b"RIFF")),
    (SPEECH, "events", b"data: {}\n\n", "events"),
    (ExpectedFormat(is_stream=True, may_be_text=True), "text", b"data: {}\n\n", "events"),
    # Audio and images may begin with anything.
    *((asked, "opaque", start, "opaque") for asked in (*ANY_JSON, SPEECH)
      for start in (b"", b"data: a", b'{"a"', b"<html", b": a")),
    # For anything else, the label decides.
    (STREAM, "events", b"hello", "events"),
    (PLAIN, "json", b'"hello"', "document"),
    (PLAIN, "json", b"datum", "document"),
    (PLAIN, "text", b"hello", "document"),
    (PLAIN, "none", b"hello", "document"),
    (PLAIN, "unknown", b"hello", "opaque"),
    (STREAM, "json", b" " * MAX_UNDECIDED_BYTES + b"data: a", "document"),
]  # fmt: skip


@pytest.mark.parametrize(("asked", "label", "beginning", "nature"), TABLE)
def test_the_nature_of_an_answer(asked, label, beginning, nature):
    assert nature_of(asked, label, beginning) is nature


@pytest.mark.parametrize(
    ("asked", "label", "beginning", "nature"),
    [
        (STREAM, "json", b"", "document"),
        (STREAM, "text", b"dat", "document"),
        (STREAM, "events", b"\n", "events"),
        (STREAM, "json", b"<!doc", "document"),
        (STREAM, "unknown", b"\xef", "opaque"),
        (LINES_STREAM, "json", b"{", "document"),
        (LINES_STREAM, "json", ONLY_LINE, "document"),
        (LINES_STREAM, "json", LINE[:-1], "document"),
        (STREAM, "lines", LINE, "document"),
    ],
)
def test_the_label_decides_what_the_whole_body_does_not(asked, label, beginning, nature):
    assert nature_of(asked, label, beginning) is None
    assert nature_of(asked, label, beginning, is_all=True) is nature


@pytest.mark.parametrize(
    ("content_type", "label"),
    [
        (b"", "none"),
        (b"Text/Event-Stream; charset=utf-8", "events"),
        (b"application/jsonl", "lines"),
        (b"application/problem+json", "json"),
        (b"text/plain", "text"),
        (b"application/pdf", "unknown"),
        (b"video/mp4", "opaque"),
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
