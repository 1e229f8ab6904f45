"""Recognises the error of a backend that does not have the model it was asked for."""

import re
from http import HTTPStatus
from typing import Final

MAX_ERROR_BYTES: Final = 1024 * 1024
"""Some frameworks quote the refused request in an error, including its images."""

_STATUSES: Final = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND})
_ROUTER_LACKS_MODEL: Final = re.compile(rb"\"message\"\s*:\s*\"model '[^'\"]{1,256}' not found\"")


def names_missing_model(status: int, body: bytes) -> bool:
    """Whether an error says that the model is unknown, not the path: a 404, or the 400 of llama.cpp in router mode."""
    if status not in _STATUSES:
        return False
    text = body[:MAX_ERROR_BYTES].lower()
    if status == HTTPStatus.BAD_REQUEST:
        return _ROUTER_LACKS_MODEL.search(text) is not None
    return b"model" in text and (b"not found" in text or b"does not exist" in text or b"not_found" in text)
