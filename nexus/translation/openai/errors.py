"""Reads and writes errors in OpenAI's format, and reads those of servers that only resemble it."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from nexus.translation.error_texts import text_of
from nexus.translation.events import Failure
from nexus.wire.documents import read
from nexus.wire.errors.presentable import presentable
from nexus.wire.errors.status import status_of

_ANYTHING: Final = msgspec.json.Decoder()


def decode_error(status: int, body: bytes) -> Failure:
    decoded = read(_ANYTHING, body)
    # Google's API sends a list with one error.
    if isinstance(decoded, list) and decoded:
        decoded = decoded[0]
    if not isinstance(decoded, dict):
        text = decoded if isinstance(decoded, str) else body.decode(errors="replace")
        return Failure(status, presentable(text.strip()) or f"the backend answered with status {status}")
    error = decoded.get("error") or decoded
    return Failure(status, text_of(error) or f"the backend answered with status {status}", _code(error))


def failure_in(document: bytes) -> Failure:
    """Return the failure that an event reports in its member ``error``, or old engines beside it."""
    decoded = read(_ANYTHING, document)
    decoded = decoded.get("error") or decoded if isinstance(decoded, dict) else decoded
    return Failure(status_of(decoded), text_of(decoded) or "the backend reported an error", _code(decoded))


def _code(error: object) -> str:
    if not isinstance(error, dict):
        return ""
    # Google's API has the number of the status as its code, and a word as its status.
    found: Any = next((error[name] for name in ("code", "type", "status") if isinstance(error.get(name), str)), "")
    return presentable(found)


_TYPES: Final[Mapping[int, str]] = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}
"""By the status; the type of any other is by its first digit."""


class _Facts(msgspec.Struct):
    message: str
    type: str
    param: None
    code: str | None


class _Error(msgspec.Struct):
    error: _Facts


def encode_error(failure: Failure, _request_id: str) -> bytes:
    kind = "server_error" if failure.status >= 500 else "invalid_request_error"
    facts = _Facts(failure.message, _TYPES.get(failure.status, kind), None, failure.code or None)
    return msgspec.json.encode(_Error(facts))
