"""Reads and writes errors of the Responses API."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

import msgspec

from nexus.translation.error_texts import text_in
from nexus.translation.events import Failure
from nexus.wire.documents import read
from nexus.wire.errors.context import context_exceeded
from nexus.wire.errors.presentable import presentable
from nexus.wire.errors.status import status_of

_TYPES: Final[Mapping[int, str]] = {
    HTTPStatus.UNAUTHORIZED: "authentication_error",
    HTTPStatus.FORBIDDEN: "permission_error",
    HTTPStatus.TOO_MANY_REQUESTS: "rate_limit_error",
}


def encode_error(failure: Failure, _request_id: str) -> bytes:
    """Return the body of an error."""
    is_clients = failure.status < HTTPStatus.INTERNAL_SERVER_ERROR
    type_ = _TYPES.get(failure.status, "invalid_request_error" if is_clients else "server_error")
    error = {"message": presentable(failure.message), "type": type_, "param": None, "code": _code_of(failure) or None}
    return msgspec.json.encode({"error": error})


def error_json(failure: Failure) -> bytes:
    """Return the JSON of the error in a response that has failed."""
    code = _code_of(failure)
    if not code:
        code = "invalid_prompt" if failure.status < HTTPStatus.INTERNAL_SERVER_ERROR else "server_error"
    return msgspec.json.encode({"code": code, "message": presentable(failure.message)})


def _code_of(failure: Failure) -> str:
    """Return the code by which clients know what to do; empty if none fits."""
    if failure.code == "insufficient_quota":
        return failure.code
    if context_exceeded(failure.status, f"{failure.code} {failure.message}".encode(errors="replace")) is not None:
        return "context_length_exceeded"
    return "rate_limit_exceeded" if failure.status == HTTPStatus.TOO_MANY_REQUESTS else failure.code


class _Error(msgspec.Struct):
    message: str | None = None
    code: Any = None
    type: str | None = None


class _Body(_Error):
    """Some servers put the members of the error into the body."""

    error: _Error | str | None = None


_BODY: Final = msgspec.json.Decoder(_Body)
_ANY: Final = msgspec.json.Decoder()
_UNNAMED: Final = "the backend reported an error"


def decode_error(status: int, body: bytes) -> Failure:
    """Read the body of an error with this *status*."""
    found = read(_BODY, body)
    if found is None:
        return Failure(status, text_in(body) or body.decode(errors="replace").strip() or _UNNAMED)
    if isinstance(found.error, str):
        return Failure(status, found.error or _UNNAMED)
    error = found.error or found
    code = error.code if isinstance(error.code, str) else error.type or ""
    message = error.message or text_in(body) or code or _UNNAMED
    return Failure(status, message, "" if code == "error" else code)


def failure_in(error: bytes) -> Failure:
    """Return the failure that the JSON *error* in an answer reports, with the status that it should have had."""
    found = read(_ANY, error)
    inner = found.get("error") if isinstance(found, dict) else None
    return decode_error(status_of(inner or found), error)
