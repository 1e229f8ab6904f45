"""Errors inside OpenAI's streams: the backends' and our own."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from nexus.wire.documents import read
from nexus.wire.errors.status import status_of
from nexus.wire.streams.event import Event

_ANYTHING: Final = msgspec.json.Decoder()


def decoded_error(event: Event) -> Any:
    """Return the error in *event*, from wherever servers put it; None when it is no JSON."""
    decoded = read(_ANYTHING, event.content)
    if not isinstance(decoded, dict):
        return decoded
    response = decoded.get("response")
    return decoded.get("error") or (response.get("error") if isinstance(response, dict) else None) or decoded


def reply_of(error: Any, body: bytes) -> tuple[int, bytes]:
    """Return the reply that an error should have been; *body* is it as sent."""
    return status_of(error), body


def encode_failure(code: str, message: str, *, beside: Mapping[str, Any] | None = None) -> bytes:
    """Make an error of ours, which every client library raises for its member ``error``.

    :param beside: further members of the event.
    """
    error = {"message": message, "type": "upstream_error", "param": None, "code": code}
    return msgspec.json.encode({**(beside or {}), "error": error})
