"""Encodes errors in OpenAI's format."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, NotRequired, TypedDict

import msgspec

from nexus.errors import RequestError
from nexus.wire.errors.presentable import presentable


class OpenAIErrorFacts(TypedDict):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str


class OpenAIError(TypedDict):
    """An error as OpenAI's clients read it."""

    error: OpenAIErrorFacts
    context: NotRequired[Mapping[str, Any]]


def encode_error(error: RequestError, _request_id: str) -> bytes:
    """Encode *error*, with its facts for clients as ``context``."""
    body: OpenAIError = {
        "error": {
            "message": presentable(error.message),
            "type": _type_of(error),
            "param": error.param,
            "code": error.code,
        }
    }
    if error.context is not None:
        body["context"] = error.context
    return msgspec.json.encode(body)


def _type_of(error: RequestError) -> str:
    if error.status == HTTPStatus.TOO_MANY_REQUESTS:
        return "rate_limit_error"
    if error.status < HTTPStatus.INTERNAL_SERVER_ERROR:
        return "invalid_request_error"
    # Clients that read the context of a rejection recognise it by this type.
    is_rejection = error.status == HTTPStatus.SERVICE_UNAVAILABLE and error.context is not None
    return "service_unavailable" if is_rejection else "server_error"
