"""Encodes errors in Ollama's format."""

from collections.abc import Mapping
from typing import Any, Final, NotRequired, TypedDict

import msgspec

from nexus.errors import RequestError
from nexus.wire.errors.presentable import presentable

TOO_LONG: Final = "the input length exceeds the context length"
"""Ollama's own message for a prompt that it must not truncate."""


class OllamaError(TypedDict):
    """An error as Ollama's clients read it."""

    error: str
    code: str
    context: NotRequired[Mapping[str, Any]]


def encode_error(error: RequestError, _request_id: str) -> bytes:
    """Encode *error* as a text, with its code and its facts beside it."""
    is_too_long = error.code == "context_length_exceeded" and "context_length" in (error.context or {})
    message = TOO_LONG if is_too_long else error.message
    body: OllamaError = {"error": presentable(message), "code": error.code}
    if error.context is not None:
        body["context"] = error.context
    return msgspec.json.encode(body)
