"""Nexus's errors in the shape that Ollama's clients read."""

import msgspec

from nexus.errors import RequestError
from nexus.wire.presentable import presentable


def encode_error(error: RequestError, _request_id: str) -> bytes:
    """Make the body of *error*: a text, and beside it what other clients can act on."""
    body: dict[str, object] = {"error": presentable(error.message), "code": error.code}
    if error.context is not None:
        body["context"] = error.context
    return msgspec.json.encode(body)
