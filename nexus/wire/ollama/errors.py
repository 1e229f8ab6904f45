"""Nexus's errors in the shape that Ollama's clients read."""

from collections.abc import Mapping
from typing import Any, NotRequired, TypedDict

import msgspec

from nexus.errors import RequestError
from nexus.wire.presentable import presentable


class OllamaError(TypedDict):
    """An error as Ollama's clients read it."""

    error: str
    code: str
    context: NotRequired[Mapping[str, Any]]


def encode_error(error: RequestError, _request_id: str) -> bytes:
    """Make the body of *error*: a text, and beside it what other clients can act on."""
    body: OllamaError = {"error": presentable(error.message), "code": error.code}
    if error.context is not None:
        body["context"] = error.context
    return msgspec.json.encode(body)
