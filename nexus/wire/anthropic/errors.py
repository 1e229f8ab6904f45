"""Encodes errors in Anthropic's format."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final, Literal, NotRequired, TypedDict

import msgspec

from nexus.errors import RequestError
from nexus.wire.errors.presentable import presentable

TYPE_OF_STATUS: Final[Mapping[int, str]] = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
"""Any other status is an ``invalid_request_error`` below 500, else an ``api_error``."""

TYPE_OF_CODE: Final[Mapping[str, str]] = {
    "deadline_exceeded": "timeout_error",
    "stream_stalled": "timeout_error",
    "server_shutdown": "overloaded_error",
}
"""For errors that end a stream; any other code is an ``api_error``."""


class AnthropicErrorFacts(TypedDict):
    """What went wrong."""

    type: str
    message: str
    param: str | None
    code: str


class AnthropicError(TypedDict):
    """An error as Anthropic's clients read it."""

    type: Literal["error"]
    error: AnthropicErrorFacts
    request_id: str
    context: NotRequired[Mapping[str, Any]]


def encode_error(error: RequestError, request_id: str) -> bytes:
    """Encode *error*, with its facts for clients as ``context``."""
    is_clients = error.status < HTTPStatus.INTERNAL_SERVER_ERROR
    type_ = TYPE_OF_STATUS.get(error.status, "invalid_request_error" if is_clients else "api_error")
    body: AnthropicError = {
        "type": "error",
        "error": {"type": type_, "message": presentable(_message_of(error)), "param": error.param, "code": error.code},
        "request_id": request_id,
    }
    if error.context is not None:
        body["context"] = error.context
    return msgspec.json.encode(body)


def _message_of(error: RequestError) -> str:
    """Return the message of *error*; a prompt that is too long has Anthropic's wording, which clients parse."""
    facts = error.context or {}
    limit, prompt, needed = (facts.get(name) for name in ("context_length", "prompt_tokens", "needed_tokens"))
    if error.code != "context_length_exceeded" or not (
        isinstance(limit, int) and isinstance(prompt, int) and isinstance(needed, int)
    ):
        return error.message
    if prompt > limit or needed == prompt:
        return f"prompt is too long: {prompt} tokens > {limit} maximum"
    sizes = f"{prompt} + {needed - prompt} > {limit}"
    return f"input length and `max_tokens` exceed context limit: {sizes}, decrease input length or `max_tokens`"
