"""What an answer is, judged by what was asked and by what comes; its content type is only a hint.

Servers label event streams as JSON, answer errors with 200, and stream to clients that asked for a document. Each of
these is decided here, once, so that it is treated alike whatever the request was.
"""

import re
from collections.abc import Mapping
from enum import Enum, auto
from typing import Any, Final

import msgspec

from nexus.wire.documents import is_given, read
from nexus.wire.errors.status import status_of


class Label(Enum):
    """What the head of an answer says of its body."""

    EVENTS = auto()
    """``text/event-stream``."""
    LINES = auto()
    """JSON lines, under any of their names."""
    JSON = auto()
    TEXT = auto()
    PAGE = auto()
    """``text/html``, which is also what some gateways call all that they pass on."""
    NONE = auto()
    """No content type at all."""
    UNKNOWN = auto()
    """``application/octet-stream``, or a type that is not in the table."""
    OPAQUE = auto()
    """Sound, pictures, or anything compressed: their first bytes may look like anything."""


class Nature(Enum):
    """What an answer is."""

    EVENTS = auto()
    """Server-sent events."""
    LINES = auto()
    """JSON lines, a stream."""
    DOCUMENT = auto()
    """One JSON document, or one text."""
    PAGE = auto()
    """A web page, which answers no request to a model."""
    OPAQUE = auto()
    """Bytes that only the client can read."""


class Asked(msgspec.Struct, frozen=True, gc=False):
    """What was asked for, as far as it bears on what may come."""

    is_stream: bool = False
    takes_lines: bool = False
    """Whether a stream of this endpoint is made of JSON lines."""
    may_be_text: bool = False
    """Whether a document of this endpoint may be any text, such as subtitles."""


_LABELS: Final[Mapping[bytes, Label]] = {
    b"": Label.NONE,
    b"text/event-stream": Label.EVENTS,
    b"application/x-ndjson": Label.LINES,
    b"application/ndjson": Label.LINES,
    b"application/jsonl": Label.LINES,
    b"application/json": Label.JSON,
    b"text/json": Label.JSON,
    b"text/html": Label.PAGE,
    b"application/xhtml+xml": Label.PAGE,
}
_LABELS_OF_FAMILIES: Final = (
    (b"audio/", Label.OPAQUE),
    (b"image/", Label.OPAQUE),
    (b"video/", Label.OPAQUE),
    (b"text/", Label.TEXT),
)

MAX_UNDECIDED_BYTES: Final = 64 * 1024
"""Blanks and beginnings of words that are waited for; what is not decided by then is what its label says."""

_BLANKS: Final = re.compile(rb"(?:\xef\xbb\xbf)?[ \t\r\n]*+")
_FIELD: Final = re.compile(rb"(?:data|event|id|retry)[:\r\n]")
_FIELDS: Final = (b"data:", b"event:", b"retry:", b"id:", b"\xef\xbb\xbf")
_PAGE: Final = re.compile(rb"<(?:!doctype|html|head|body|\?xml)", re.IGNORECASE)
_PAGES: Final = (b"<!doctype", b"<html", b"<head", b"<body", b"<?xml")
_LINE_OBJECT: Final = re.compile(rb'\{[ \t]*+["}]')
"""An object that goes on in the line in which it begins; one that is printed for people does not."""


def label_of(content_type: bytes) -> Label:
    """Return what a ``Content-Type`` header, with or without parameters, says of the body."""
    essence = content_type.partition(b";")[0].strip().lower()
    label = _LABELS.get(essence)
    if label is not None:
        return label
    if essence.endswith(b"+json"):
        return Label.JSON
    return next((label for family, label in _LABELS_OF_FAMILIES if essence.startswith(family)), Label.UNKNOWN)


def nature_of(asked: Asked, label: Label, beginning: bytes, *, is_all: bool = False) -> Nature | None:
    """Return what an answer is whose body begins with *beginning*; None when more of it must come to tell.

    The verdict depends on the body alone, not on how it was cut: once it is not None, no further byte changes it.

    :param is_all: whether nothing follows.
    """
    if label is Label.OPAQUE:
        return Nature.OPAQUE
    at = _BLANKS.match(beginning, 0, MAX_UNDECIDED_BYTES).end()  # type: ignore[union-attr]
    if at >= MAX_UNDECIDED_BYTES:
        return _nature_by_label(label)
    opening = beginning[at : at + 1]
    if opening == b"{":
        if not asked.takes_lines and label is not Label.LINES:
            return Nature.DOCUMENT
        return _nature_of_lines(asked, label, beginning, at, is_all=is_all)
    if opening == b"[":
        return Nature.DOCUMENT
    if opening == b":":
        return Nature.EVENTS if label is Label.EVENTS or not asked.may_be_text else _nature_by_label(label)
    if opening == b"<":
        return _nature_of_markup(asked, label, beginning[at:], is_all=is_all)
    if _FIELD.match(beginning, at):
        # A transcript may begin with such a word.
        return Nature.EVENTS if label is Label.EVENTS or not _is_any_text(asked, label) else Nature.DOCUMENT
    if not is_all and _is_begun(beginning[at:], _FIELDS):
        return None
    return _nature_by_label(label)


def _nature_of_lines(asked: Asked, label: Label, beginning: bytes, at: int, *, is_all: bool) -> Nature | None:
    """Tell JSON lines, which were asked for or announced, from one document."""
    if not _LINE_OBJECT.match(beginning, at):
        # Only the next byte tells a line from a document that is printed for people.
        is_undecided = not is_all and not beginning[at + 1 :].strip(b" \t")
        return None if is_undecided else Nature.DOCUMENT
    if asked.takes_lines and label is Label.LINES:
        return Nature.LINES
    end = beginning.find(b"\n", at)
    if end < 0 or not (asked.takes_lines or beginning[end:].strip()):
        return Nature.DOCUMENT if is_all else None
    line = read(_LINE, beginning[at:end])
    if not asked.takes_lines:
        # Lines that no client of this endpoint reads, unless it is one document that goes on.
        return Nature.DOCUMENT if line is None else Nature.LINES
    # One that ends the answer is all of it: the same bytes as a document.
    return Nature.DOCUMENT if line is None or line.done or is_given(line.error) else Nature.LINES


def _nature_of_markup(asked: Asked, label: Label, beginning: bytes, *, is_all: bool) -> Nature | None:
    if label is Label.PAGE or (_PAGE.match(beginning) and not _is_any_text(asked, label)):
        return Nature.PAGE
    if not is_all and _is_begun(beginning.lower(), _PAGES) and not _is_any_text(asked, label):
        return None
    return _nature_by_label(label)


def _nature_by_label(label: Label) -> Nature:
    return _NATURES[label]


_NATURES: Final[Mapping[Label, Nature]] = {
    Label.EVENTS: Nature.EVENTS,
    Label.LINES: Nature.LINES,
    Label.JSON: Nature.DOCUMENT,
    Label.TEXT: Nature.DOCUMENT,
    Label.PAGE: Nature.PAGE,
    Label.NONE: Nature.DOCUMENT,
    Label.UNKNOWN: Nature.OPAQUE,
    Label.OPAQUE: Nature.OPAQUE,
}
"""Of an answer whose first bytes say nothing."""


def _is_any_text(asked: Asked, label: Label) -> bool:
    return asked.may_be_text and not asked.is_stream and label is not Label.EVENTS


def _is_begun(text: bytes, words: tuple[bytes, ...]) -> bool:
    """Whether *text* may still become one of *words*."""
    return any(word.startswith(text) for word in words)


# Errors that call themselves a success.


def error_in(document: bytes, *, is_kept: bool = False) -> int | None:
    """Return the status that *document*, an answer with a 2xx status, stands for when it is an error; else None.

    An error is a document that says so and brings no answer; one that cannot be read is none.

    :param is_kept: whether something was asked for that the backend keeps, which has an id and may tell of an error.
    """
    # One of the two stands in every error of the table.
    if b'"error"' not in document and b'"detail"' not in document:
        return None
    found = read(_ANSWER, document)
    if isinstance(found, list):
        found = found[0] if len(found) == 1 else None
    if found is None or not found.is_error or (is_kept and found.id is not None):
        return None
    return status_of(found.reason)


class _Line(msgspec.Struct, gc=False):
    done: bool = False
    error: msgspec.Raw = msgspec.Raw()


class _Answer(msgspec.Struct):
    """The members by which an error is told from an answer, whatever API it is of."""

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
        says_so = (
            is_given(self.error)
            or self.object == "error"
            or self.type == "error"
            or (is_given(self.detail) and self.object is None and self.type is None)
        )
        return says_so and not self.is_answer

    @property
    def is_answer(self) -> bool:
        """Whether it brings anything that a model was asked for."""
        # The message of Ollama's chat is an object, that of an error a text.
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
        """The part of it that says which error it is."""
        if is_given(self.error):
            return read(_ANYTHING, bytes(self.error))
        return {"code": self.code, "status": self.status, "type": self.type}


_LINE: Final = msgspec.json.Decoder(_Line)
_ANSWER: Final = msgspec.json.Decoder(_Answer | list[_Answer])
_ANYTHING: Final = msgspec.json.Decoder()
