"""Reads and writes Anthropic's errors."""

from http import HTTPStatus
from typing import Any, Final

import msgspec

from nexus.translation.error_texts import text_in, text_of
from nexus.translation.events import Failure
from nexus.wire.anthropic.errors import TYPE_OF_CODE, TYPE_OF_STATUS
from nexus.wire.documents import read
from nexus.wire.errors.context import context_exceeded
from nexus.wire.errors.presentable import MAX_MESSAGE_CHARACTERS, presentable

TOO_LONG: Final = "prompt is too long"
"""Agents look for these words, and then shorten the conversation."""


def encode_error(failure: Failure, request_id: str) -> bytes:
    error = _Error(type_of(failure), message_of(failure))
    return msgspec.json.encode(_Document(error, request_id))


def encode_error_event(failure: Failure) -> bytes:
    """Return the event that ends a stream: no ``message_stop`` follows."""
    return b"event: error\ndata: %b\n\n" % msgspec.json.encode(_Document(_Error(type_of(failure), message_of(failure))))


def decode_error(status: int, body: bytes) -> Failure:
    """Read the body of an error with this status, whatever it is."""
    document = read(_ANYTHING, body)
    error = document.get("error", document) if isinstance(document, dict) else document
    return _failure(status, error, body)


def failure_of(status: int, error: Any) -> Failure:
    """Return the failure that *error* reports, an ``error`` of any shape."""
    return _failure(status, error, b"")


def _failure(status: int, error: Any, body: bytes) -> Failure:
    if isinstance(error, dict):
        message, type_ = error.get("message"), error.get("type")
        return Failure(status, _text(message) or text_of(error) or _of_status(status), _text(type_))
    shown = _text(error) or text_in(body) or body[:MAX_MESSAGE_CHARACTERS].decode(errors="replace").strip()
    return Failure(status, shown or _of_status(status))


def type_of(failure: Failure) -> str:
    is_clients = failure.status < HTTPStatus.INTERNAL_SERVER_ERROR
    known = TYPE_OF_STATUS.get(failure.status) or TYPE_OF_CODE.get(failure.code)
    return known or ("invalid_request_error" if is_clients else "api_error")


def message_of(failure: Failure) -> str:
    message = presentable(failure.message)
    if TOO_LONG in message or context_exceeded(failure.status, failure.message.encode(errors="replace")) is None:
        return message
    return f"{TOO_LONG}: {message}"


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _of_status(status: int) -> str:
    return f"the backend answered with status {status}"


class _Error(msgspec.Struct):
    type: str
    message: str


class _Document(msgspec.Struct, tag_field="type", tag="error", omit_defaults=True):
    error: _Error
    request_id: str = ""


_ANYTHING: Final = msgspec.json.Decoder()
