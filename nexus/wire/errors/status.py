"""Maps an error inside a stream to an HTTP status."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from nexus.wire.errors.context import context_exceeded

STATUS_OF_WORD: Final[Mapping[str, int]] = {
    "invalid_request_error": 400,
    "exceed_context_size_error": 400,
    "context_length_exceeded": 400,
    "invalid_prompt": 400,
    "badrequesterror": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "notfounderror": 404,
    "model_not_found": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "overloaded_error": 503,
    "overloaded": 503,
    "unavailable_error": 503,
    "service unavailable": 503,
    "timeout_error": 504,
}
"""By the type or code of the error, in lower case, as engines and APIs name them."""

BAD_REQUEST: Final = 400
UNKNOWN: Final = 502
_OVERLOADED: Final = 529


def status_of(error: object) -> int:
    """Return the status for *error*, a decoded error object or any value in its place; 502 if it has none."""
    if not isinstance(error, dict):
        return BAD_REQUEST if _is_about_the_context(error) else UNKNOWN
    for value in _values(error, "code", "status", "status_code"):
        # A bool is an int, but no status.
        if type(value) is int and 400 <= value < 600:
            return 503 if value == _OVERLOADED else value
    for value in _values(error, "type", "code"):
        if isinstance(value, str) and (status := STATUS_OF_WORD.get(value.lower())):
            return status
    return BAD_REQUEST if _is_about_the_context(error.get("message")) else UNKNOWN


def _is_about_the_context(message: object) -> bool:
    # Client libraries retry every status from 500 on, which would be useless here.
    return isinstance(message, str) and context_exceeded(BAD_REQUEST, message.encode(errors="replace")) is not None


def _values(error: Mapping[str, Any], *names: str) -> Iterator[Any]:
    for name in names:
        value = error.get(name)
        yield int(value) if isinstance(value, str) and value.isdecimal() and len(value) == len("400") else value
