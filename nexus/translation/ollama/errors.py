"""Reads and writes Ollama's errors: a text, with whatever else a server says beside it."""

from typing import Any, Final

import msgspec

from nexus.translation.error_texts import text_in
from nexus.translation.events import Failure
from nexus.wire.documents import read
from nexus.wire.errors.presentable import presentable
from nexus.wire.errors.status import status_of


def decode_error(status: int, body: bytes) -> Failure:
    """Read the body of an error with this status, whatever it is."""
    found = read(_FOUND, body)
    if found is not None and found.text:
        return Failure(status, presentable(found.text), found.short_code)
    text = text_in(body)
    if not text and found is None:
        text = presentable(body.decode(errors="replace").strip())
    return Failure(status, text or f"the backend answered with status {status}")


def failure_in(line: bytes) -> Failure:
    """Return the error in a line of a stream that has one."""
    found = read(_FOUND, line) or _Found()
    return Failure(status_of(found.error), presentable(found.text) or "the backend reported an error", found.short_code)


def encode_error(failure: Failure, _request_id: str) -> bytes:
    """Write the body of an error, which is also its line in a stream."""
    return msgspec.json.encode(_Error(presentable(failure.message), failure.code))


class _Error(msgspec.Struct, omit_defaults=True):
    error: str
    code: str = ""


class _Found(msgspec.Struct):
    """An error as Ollama has it, or as OpenAI, in an object of its own."""

    error: Any = None
    message: Any = None
    code: Any = None

    @property
    def text(self) -> str:
        inner = self.error.get("message") if isinstance(self.error, dict) else self.error
        return next((text for text in (inner, self.message) if isinstance(text, str)), "")

    @property
    def short_code(self) -> str:
        code = self.error.get("code") if isinstance(self.error, dict) else self.code
        return code if isinstance(code, str) else ""


_FOUND: Final = msgspec.json.Decoder(_Found)
