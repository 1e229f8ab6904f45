"""Watches a streamed text completion, Anthropic's API before messages."""

from typing import Final

import msgspec

from nexus.wire.anthropic.stream import MessageScan
from nexus.wire.documents import read
from nexus.wire.streams.event import Event


class CompletionScan(MessageScan):
    """Events of which the last has a stop reason."""

    __slots__ = ()

    @staticmethod
    def text_in(content: bytes) -> str:
        decoded = read(_DECODER, content)
        return decoded.completion if decoded is not None else ""

    def is_end(self, events: list[Event]) -> bool:
        return any((decoded := read(_DECODER, event.content)) and decoded.stop_reason for event in events)


class _Completion(msgspec.Struct):
    completion: str = ""
    stop_reason: str | None = None


_DECODER: Final = msgspec.json.Decoder(_Completion)
