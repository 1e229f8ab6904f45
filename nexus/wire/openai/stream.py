"""Watches a streamed answer: the part that all streams of OpenAI's API share."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from nexus.domain.request import TokenUsage
from nexus.wire.documents import read
from nexus.wire.errors.status import status_of
from nexus.wire.openai.text import text_in_event
from nexus.wire.openai.usage import usage_of
from nexus.wire.streams.event import Event
from nexus.wire.streams.scan import StreamScan
from nexus.wire.streams.sse import SSEFraming

DONE: Final = b"[DONE]"


class OpenAIScan(StreamScan):
    """Server-sent events with a usage and errors in OpenAI's format."""

    __slots__ = ()

    error_mark = b'"error"'
    usage_mark = b'"input_tokens"'

    def __init__(self) -> None:
        super().__init__(SSEFraming())

    text_in = staticmethod(text_in_event)

    def usage_in(self, event: Event) -> TokenUsage | None:
        return usage_of(event.content)

    def reply_of(self, error: Event) -> tuple[int, bytes]:
        return status_of(decoded_error(error)), error.content

    def failure(self, code: str, message: str) -> bytes:
        return b"data: %b\n\n" % encode_failure(code, message)


def decoded_error(event: Event) -> Any:
    """Return the error in *event*, wherever the server put it; None if *event* is no JSON."""
    decoded = read(_ANYTHING, event.content)
    if not isinstance(decoded, dict):
        return decoded
    response = decoded.get("response")
    return decoded.get("error") or (response.get("error") if isinstance(response, dict) else None) or decoded


_ANYTHING: Final = msgspec.json.Decoder()


def encode_failure(code: str, message: str, *, beside: Mapping[str, Any] | None = None) -> bytes:
    """Encode an error of Nexus, which client libraries raise because of its member ``error``.

    :param beside: further members of the event.
    """
    error = {"message": message, "type": "upstream_error", "param": None, "code": code}
    return msgspec.json.encode({**(beside or {}), "error": error})
