"""Streams and requests of OpenAI's chat dialect, as the tests of its translation write and read them."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from nexus.translation.chat import ChatRequest, Message
from nexus.translation.dialect import AnswerContext, Target
from nexus.translation.events import AnswerEvent
from nexus.translation.openai import DIALECT
from nexus.translation.openai.request_out import encode_request
from nexus.translation.openai.stream_in import ChatStreamDecoder
from nexus.translation.ordering import Ordering
from nexus.translation.quirks import quirks_of
from nexus.wire.streams.event import Event
from nexus.wire.streams.sse import SSEFraming

CONTEXT = AnswerContext(model="gpt", id="r1", created=7)


def chunk(delta: dict[str, Any] | None = None, finish: str | None = None, **members: Any) -> bytes:
    choice = {"index": 0, "delta": delta or {}, "finish_reason": finish}
    return json.dumps({"id": "chatcmpl-b", "model": "llama", "choices": [choice], **members}).encode()


def read(chunks: Iterable[bytes]) -> list[AnswerEvent]:
    """Return what the decoder reads, as it is and before it is put in order."""
    decoder = ChatStreamDecoder()
    return [event for each in chunks for event in decoder.decode(Event(b"", each))]


def ordered(chunks: Iterable[bytes]) -> list[AnswerEvent]:
    return Ordering("call_r1").add(read(chunks))


def written(events: Sequence[AnswerEvent], context: AnswerContext = CONTEXT) -> list[Any]:
    """Return the chunks that a client gets, decoded; the end mark as text."""
    stream = DIALECT.open_encoder(context).encode(Ordering("call_r1").add(events))
    found = [event.content for event in SSEFraming.events(stream)]
    return ["[DONE]" if each == b"[DONE]" else json.loads(each) for each in found]


def sent(
    *messages: Message, kind: str = "generic", model: str = "m", thinks: bool | None = None, **fields: Any
) -> dict[str, Any]:
    """Return the body that a backend gets, decoded, with what was lost as ``lost``."""
    target = Target(model=model, thinks=thinks, quirks=quirks_of(kind))
    encoded = encode_request(ChatRequest(model="client", messages=messages, **fields), target)
    return {**json.loads(encoded.body), "lost": encoded.lost}
