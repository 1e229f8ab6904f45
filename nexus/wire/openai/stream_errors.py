"""Errors inside streams: those of backends, and those of Nexus."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from nexus.wire.documents import read
from nexus.wire.errors.status import status_of
from nexus.wire.streams.event import Event

_ANYTHING: Final = msgspec.json.Decoder()


def decoded_error(event: Event) -> Any:
    """Return the error in *event*, wherever the server put it; None if *event* is no JSON."""
    decoded = read(_ANYTHING, event.content)
    if not isinstance(decoded, dict):
        return decoded
    response = decoded.get("response")
    return decoded.get("error") or (response.get("error") if isinstance(response, dict) else None) or decoded


def reply_of(error: Any, body: bytes) -> tuple[int, bytes]:
    """Return the status that *error* should have been sent with, and its *body*."""
    return status_of(error), body


def encode_failure(code: str, message: str, *, beside: Mapping[str, Any] | None = None) -> bytes:
    """Encode an error of Nexus, which client libraries raise because of its member ``error``.

    :param beside: further members of the event.
    """
    error = {"message": message, "type": "upstream_error", "param": None, "code": code}
    return msgspec.json.encode({**(beside or {}), "error": error})
