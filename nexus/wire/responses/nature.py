"""Decides what an answer is from the request and its first bytes; its content type is only a hint.

Servers send event streams as JSON, answer errors with 200, and stream to clients that asked for a document. All of
this is decided here, so that every request is treated alike.
"""

import re
from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec

from nexus.wire.documents import LONG_BYTES, is_given, read, without_vectors
from nexus.wire.errors.status import status_of

Label = Literal["events", "lines", "json", "text", "page", "none", "unknown", "opaque"]
"""The type that the head of an answer declares.

``events`` is ``text/event-stream``; ``lines`` are JSON lines, under any of their media types; ``page`` is
``text/html``, which some gateways declare for everything they forward; ``none`` is no content type at all; ``unknown``
is ``application/octet-stream``, or a type that is not in the tables; ``opaque`` is audio, images, or anything
compressed, whose first bytes say nothing.
"""

Nature = Literal["events", "lines", "document", "page", "opaque"]
"""The kind of an answer: server-sent events, a stream of JSON lines, a JSON document or a text, a web page, which is
never the answer of a model, or bytes that are passed on unread.
"""


class ExpectedFormat(msgspec.Struct, frozen=True, gc=False):
    """The format of an answer that the request implies."""

    is_stream: bool = False
    takes_lines: bool = False
    """Whether streams of this endpoint are JSON lines."""
    may_be_text: bool = False
    """Whether documents of this endpoint may be any text, such as subtitles."""


_LABELS: Final[Mapping[bytes, Label]] = {
    b"": "none",
    b"text/event-stream": "events",
    b"application/x-ndjson": "lines",
    b"application/ndjson": "lines",
    b"application/jsonl": "lines",
    b"application/json": "json",
    b"text/json": "json",
    b"text/html": "page",
    b"application/xhtml+xml": "page",
}
_LABELS_OF_FAMILIES: Final[tuple[tuple[bytes, Label], ...]] = (
    (b"audio/", "opaque"),
    (b"image/", "opaque"),
    (b"video/", "opaque"),
    (b"text/", "text"),
)

MAX_UNDECIDED_BYTES: Final = 64 * 1024
"""After this many bytes of white space, the label decides."""

_BLANKS: Final = re.compile(rb"(?:\xef\xbb\xbf)?[ \t\r\n]*+")
_FIELD: Final = re.compile(rb"(?:data|event|id|retry)[:\r\n]")
_FIELDS: Final = (b"data:", b"event:", b"retry:", b"id:", b"\xef\xbb\xbf")
_PAGE: Final = re.compile(rb"<(?:!doctype|html|head|body|\?xml)", re.IGNORECASE)
_PAGES: Final = (b"<!doctype", b"<html", b"<head", b"<body", b"<?xml")
_LINE_OBJECT: Final = re.compile(rb'\{[ \t]*+["}]')
"""An object that continues on its first line, unlike a pretty-printed one."""


def label_of(content_type: bytes) -> Label:
    """Return the label for a ``Content-Type`` header, with or without parameters."""
    essence = content_type.partition(b";")[0].strip().lower()
    label = _LABELS.get(essence)
    if label is not None:
        return label
    if essence.endswith(b"+json"):
        return "json"
    return next((label for family, label in _LABELS_OF_FAMILIES if essence.startswith(family)), "unknown")


def nature_of(expected: ExpectedFormat, label: Label, beginning: bytes, *, is_all: bool = False) -> Nature | None:
    """Return the kind of an answer that begins with *beginning*; None when more bytes are needed.

    The result does not depend on how the body was cut: further bytes never change one that is not None.

    :param is_all: whether *beginning* is the whole body.
    """
    if label == "opaque":
        return "opaque"
    at = _BLANKS.match(beginning, 0, MAX_UNDECIDED_BYTES).end()  # type: ignore[union-attr]
    if at >= MAX_UNDECIDED_BYTES:
        return _nature_by_label(label)
    opening = beginning[at : at + 1]
    if opening == b"{":
        if not expected.takes_lines and label != "lines":
            return "document"
        return _nature_of_lines(expected, label, beginning, at, is_all=is_all)
    if opening == b"[":
        return "document"
    if opening == b":":
        return "events" if label == "events" or not expected.may_be_text else _nature_by_label(label)
    if opening == b"<":
        return _nature_of_markup(expected, label, beginning[at:], is_all=is_all)
    if _FIELD.match(beginning, at):
        # A transcript may begin like a field of an event.
        return "events" if label == "events" or not _is_any_text(expected, label) else "document"
    if not is_all and _is_begun(beginning[at:], _FIELDS):
        return None
    return _nature_by_label(label)


def _nature_of_lines(
    expected: ExpectedFormat, label: Label, beginning: bytes, at: int, *, is_all: bool
) -> Nature | None:
    """Distinguish JSON lines, which were requested or declared, from a document."""
    if not _LINE_OBJECT.match(beginning, at):
        # Only the next byte distinguishes a line from a pretty-printed document.
        is_undecided = not is_all and not beginning[at + 1 :].strip(b" \t")
        return None if is_undecided else "document"
    if expected.takes_lines and label == "lines":
        return "lines"
    end = beginning.find(b"\n", at)
    if end < 0 or not (expected.takes_lines or beginning[end:].strip()):
        return "document" if is_all else None
    line = read(_LINE, beginning[at:end])
    if not expected.takes_lines:
        # Lines that were not requested, unless the object is the beginning of a document.
        return "document" if line is None else "lines"
    # A first line that ends the answer is the whole answer, with the same bytes as a document.
    return "document" if line is None or line.done or is_given(line.error) else "lines"


def _nature_of_markup(expected: ExpectedFormat, label: Label, beginning: bytes, *, is_all: bool) -> Nature | None:
    if label == "page" or (_PAGE.match(beginning) and not _is_any_text(expected, label)):
        return "page"
    if not is_all and _is_begun(beginning.lower(), _PAGES) and not _is_any_text(expected, label):
        return None
    return _nature_by_label(label)


def _nature_by_label(label: Label) -> Nature:
    return _NATURES[label]


_NATURES: Final[Mapping[Label, Nature]] = {
    "events": "events",
    "lines": "lines",
    "json": "document",
    "text": "document",
    "page": "page",
    "none": "document",
    "unknown": "opaque",
    "opaque": "opaque",
}
"""The kind of an answer whose first bytes do not decide it."""


def _is_any_text(expected: ExpectedFormat, label: Label) -> bool:
    return expected.may_be_text and not expected.is_stream and label != "events"


def _is_begun(text: bytes, words: tuple[bytes, ...]) -> bool:
    """Whether *text* is the beginning of one of *words*."""
    return any(word.startswith(text) for word in words)


def error_in(document: bytes, *, is_kept: bool = False) -> int | None:
    """Return the status that *document*, an answer with a 2xx status, should have if it is an error; else None.

    An error is a readable document that declares one and contains no answer.

    :param is_kept: whether the request was for something that the backend keeps, which has an id and may report an
        error of its own.
    """
    if len(document) >= LONG_BYTES:
        document = without_vectors(document)
    # Every error has one of these members.
    if document.find(b'"error"') < 0 and document.find(b'"detail"') < 0:
        return None
    found = read(_DOCUMENT, document)
    if isinstance(found, list):
        found = found[0] if len(found) == 1 else None
    if found is None or not found.is_error or (is_kept and found.id is not None):
        return None
    return status_of(found.reason)


class _Line(msgspec.Struct, gc=False):
    done: bool = False
    error: msgspec.Raw = msgspec.Raw()


class _Document(msgspec.Struct):
    """The members that distinguish an error from an answer, in any API."""

    id: Any = None
    error: msgspec.Raw = msgspec.Raw()
    object: Any = None
    type: Any = None
    detail: msgspec.Raw = msgspec.Raw()
    message: msgspec.Raw = msgspec.Raw()
    code: Any = None
    status: Any = None

    choices: msgspec.Raw = msgspec.Raw()
    content: msgspec.Raw = msgspec.Raw()
    output: msgspec.Raw = msgspec.Raw()
    data: msgspec.Raw = msgspec.Raw()
    results: msgspec.Raw = msgspec.Raw()
    embedding: msgspec.Raw = msgspec.Raw()
    embeddings: msgspec.Raw = msgspec.Raw()
    response: msgspec.Raw = msgspec.Raw()
    text: msgspec.Raw = msgspec.Raw()
    tokens: msgspec.Raw = msgspec.Raw()

    @property
    def is_error(self) -> bool:
        declares_error = (
            is_given(self.error)
            or self.object == "error"
            or self.type == "error"
            or (is_given(self.detail) and self.object is None and self.type is None)
        )
        return declares_error and not self.is_answer

    @property
    def is_answer(self) -> bool:
        """Whether it contains an answer of a model."""
        # In Ollama's chat, the message is an object; in an error, a text.
        return bytes(self.message).startswith(b"{") or any(
            is_given(member)
            for member in (
                self.choices,
                self.content,
                self.output,
                self.data,
                self.results,
                self.embedding,
                self.embeddings,
                self.response,
                self.text,
                self.tokens,
            )
        )

    @property
    def reason(self) -> Any:
        """The part that identifies the error."""
        if is_given(self.error):
            return read(_ANYTHING, bytes(self.error))
        return {"code": self.code, "status": self.status, "type": self.type}


_LINE: Final = msgspec.json.Decoder(_Line)
_DOCUMENT: Final = msgspec.json.Decoder(_Document | list[_Document])
_ANYTHING: Final = msgspec.json.Decoder()
