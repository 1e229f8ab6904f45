"""Recognises the error of a server that does not know the path it was asked at."""

import re
from http import HTTPStatus
from typing import Any, Final

import msgspec

from nexus.wire.documents import read
from nexus.wire.errors.missing_model import MAX_ERROR_BYTES, names_missing_model

_SAYS_SO: Final = re.compile(
    r"""\W*(?:404\W*)?(?:page|file|path|route|resource|url|endpoint)?\s*not\sfound\W*\Z  # FastAPI, llama.cpp, Go
    |method\snot\sallowed
    |invalid\surl\b                            # OpenAI
    |unexpected\sendpoint\b                    # LM Studio
    |cannot\s(?:post|get)\s/                   # Express
    |un(?:known|recogni[sz]ed)\s(?:request\s)?(?:url|path|route|endpoint)\b
    |no\s(?:such\s)?(?:route|endpoint)\b""",
    re.IGNORECASE | re.VERBOSE,
)
"""At the beginning of a message: nothing was found at this path, rather than something that the request names."""


def names_unknown_path(status: int, body: bytes) -> bool:
    """Whether an error says that the server has nothing at the path, so that its other paths may do.

    The error of an API about what a request names, such as a file or a model, is none; one that is no JSON is.
    """
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        return True
    if status != HTTPStatus.NOT_FOUND or len(body) > MAX_ERROR_BYTES or names_missing_model(status, body):
        return False
    document = read(_ANYTHING, body)
    if document is None:
        return True
    message = _message_of(document)
    return message is not None and _SAYS_SO.match(message) is not None


def _message_of(document: Any) -> str | None:
    if isinstance(document, dict):
        found = document.get("error", document.get("detail", document.get("message")))
        if isinstance(found, dict):
            found = found.get("message")
        return found if isinstance(found, str) else None
    return document if isinstance(document, str) else None


_ANYTHING: Final = msgspec.json.Decoder()
