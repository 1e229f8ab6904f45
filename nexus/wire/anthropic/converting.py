"""Converts a stream into a message, and a message into a stream; the arguments of tools keep their bytes."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from nexus.domain.request import Endpoint
from nexus.wire.documents import ANY_OBJECT, read
from nexus.wire.protocol import Collector
from nexus.wire.streams.event import Event
from nexus.wire.streams.merging import joined, merge


class MessageCollector:
    """Merges the events of a message."""

    def __init__(self) -> None:
        self._message: dict[str, Any] | None = None
        self._blocks: dict[int, dict[str, Any]] = {}

    def add(self, event: Event) -> None:
        found = read(ANY_OBJECT, event.content)
        if found is None:
            return
        type_ = event.name.decode(errors="replace") or found.get("type")
        index, part = found.get("index"), found.get(_PARTS.get(str(type_), ""))
        if not isinstance(part, dict):
            return
        if type_ == "message_start":
            self._message = part
        elif type_ == "content_block_start" and isinstance(index, int):
            block = self._blocks[index] = {}
            merge(block, part)
            if "input" in block and (started := read(_STARTED, event.content)) is not None:
                block["input"] = started.content_block.input
        elif type_ == "content_block_delta" and isinstance(index, int):
            _add_delta(self._blocks.setdefault(index, {}), part)
        elif type_ == "message_delta" and self._message is not None:
            self._end(self._message, part, found.get("usage"))

    def _end(self, message: dict[str, Any], delta: Mapping[str, Any], usage: Any) -> None:
        message.update(delta)
        if isinstance(usage, dict):
            reported = {name: value for name, value in usage.items() if value is not None}
            before = message.get("usage")
            message["usage"] = {**(before if isinstance(before, dict) else {}), **reported}

    def document(self) -> bytes | None:
        if self._message is None:
            return None
        blocks = [_finished(joined(self._blocks[index])) for index in sorted(self._blocks)]
        return msgspec.json.encode({**self._message, "content": blocks})


def _add_delta(block: dict[str, Any], delta: Mapping[str, Any]) -> None:
    part = {name: value for name, value in delta.items() if name != "type"}
    if (citation := part.pop("citation", None)) is not None:
        part["citations"] = [citation]
    merge(block, part)


def _finished(block: dict[str, Any]) -> dict[str, Any]:
    arguments = block.pop("partial_json", None)
    if isinstance(arguments, str) and arguments:
        # What was cut short is no JSON.
        block["input"] = read(_RAW, arguments.encode()) or {}
    return block


_PARTS: Final[Mapping[str, str]] = {
    "message_start": "message",
    "content_block_start": "content_block",
    "content_block_delta": "delta",
    "message_delta": "delta",
}
"""The member with the content of an event."""


def collector(endpoint: Endpoint) -> Collector | None:
    return MessageCollector() if endpoint.name == "anthropic.messages" else None


def as_stream(endpoint: Endpoint, body: bytes) -> bytes | None:
    message = read(ANY_OBJECT, body) if endpoint.name == "anthropic.messages" else None
    blocks = None if message is None else message.get("content")
    if message is None or not isinstance(blocks, list) or not all(isinstance(block, dict) for block in blocks):
        return None
    raw = read(_MESSAGE, body)
    for block, raw_block in zip(blocks, raw.content if raw else (), strict=False):
        if "input" in block:
            block["input"] = raw_block.input
    return b"".join(_events(message, blocks))


def _events(message: Mapping[str, Any], blocks: list[dict[str, Any]]) -> Iterator[bytes]:
    usage = message.get("usage") or {"input_tokens": 0, "output_tokens": 0}
    yield _event("message_start", message={**message, "content": [], "stop_reason": None, "usage": usage})
    for index, block in enumerate(blocks):
        begun, deltas = _begin_and_deltas(block)
        yield _event("content_block_start", index=index, content_block=begun)
        for delta in deltas:
            yield _event("content_block_delta", index=index, delta=delta)
        yield _event("content_block_stop", index=index)
    stop = {"stop_reason": message.get("stop_reason") or "end_turn", "stop_sequence": message.get("stop_sequence")}
    yield _event("message_delta", delta=stop, usage=usage)
    yield _event("message_stop")


def _begin_and_deltas(block: dict[str, Any]) -> tuple[Mapping[str, Any], list[Mapping[str, Any]]]:
    """Return the initial form of *block* and its deltas; a block of unknown type is complete from the start."""
    match block.get("type"):
        case "text":
            return {**block, "text": ""}, [{"type": "text_delta", "text": block.get("text") or ""}]
        case "tool_use" | "server_tool_use":
            arguments = bytes(block.get("input") or b"{}").decode()
            return {**block, "input": {}}, [{"type": "input_json_delta", "partial_json": arguments}]
        case "thinking":
            thought = {"type": "thinking_delta", "thinking": block.get("thinking") or ""}
            signed = {"type": "signature_delta", "signature": block.get("signature") or ""}
            return {**block, "thinking": "", "signature": ""}, [thought, signed]
        case _:
            return block, []


def _event(type_: str, **members: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (type_.encode(), msgspec.json.encode({"type": type_, **members}))


class _Block(msgspec.Struct):
    input: msgspec.Raw = msgspec.Raw()


class _Started(msgspec.Struct):
    content_block: _Block


class _Message(msgspec.Struct):
    content: list[_Block]


_RAW: Final = msgspec.json.Decoder(msgspec.Raw)
_STARTED: Final = msgspec.json.Decoder(_Started)
_MESSAGE: Final = msgspec.json.Decoder(_Message)
