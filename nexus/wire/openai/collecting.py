"""Merges streams that were not requested into documents."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from nexus.domain.request import Endpoint
from nexus.wire.documents import ANY_OBJECT, is_given, read
from nexus.wire.openai.responses_stream import TERMINAL
from nexus.wire.protocol import Collector
from nexus.wire.streams.event import Event
from nexus.wire.streams.merging import joined, merge


class ChunkCollector:
    """Merges the chunks of a chat or text completion."""

    def __init__(self) -> None:
        self._head: dict[str, Any] = {}
        self._choices: dict[int, dict[str, Any]] = {}

    def add(self, event: Event) -> None:
        chunk = read(ANY_OBJECT, event.content)
        if chunk is None:
            return
        choices = chunk.pop("choices", None)
        self._head.update((name, value) for name, value in chunk.items() if value is not None)
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict) and isinstance(index := choice.get("index") or 0, int):
                self._add_choice(index, choice)

    def _add_choice(self, index: int, choice: dict[str, Any]) -> None:
        whole = self._choices.setdefault(index, {"index": index})
        delta = choice.pop("delta", None)
        if delta is not None:
            choice["message"] = delta
        # Sent once, and not in pieces.
        if (reason := choice.pop("finish_reason", None)) is not None:
            whole["finish_reason"] = reason
        merge(whole, choice)

    def document(self) -> bytes | None:
        if not self._choices:
            return None
        head = dict(self._head)
        if head.get("object") == "chat.completion.chunk":
            head["object"] = "chat.completion"
        choices = [_finished(joined(self._choices[index])) for index in sorted(self._choices)]
        return msgspec.json.encode({**head, "choices": choices})


def _finished(choice: dict[str, Any]) -> dict[str, Any]:
    message = choice.get("message")
    if isinstance(message, dict):
        calls = message.get("tool_calls")
        if isinstance(calls, list):
            message["tool_calls"] = [_without_index(call) for call in calls]
        choice["message"] = {"role": "assistant", "content": None, **message}
    return {**choice, "finish_reason": choice.get("finish_reason")}


def _without_index(call: Any) -> Any:
    return {name: call[name] for name in call if name != "index"} if isinstance(call, dict) else call


class ResponseCollector:
    """Keeps the response of the event that ends the stream, and the items for servers that leave them out there."""

    def __init__(self) -> None:
        self._response: msgspec.Raw | None = None
        self._items: dict[int, msgspec.Raw] = {}

    def add(self, event: Event) -> None:
        # Decodes the type and leaves the long response as bytes.
        typed = read(_TYPED, event.content)
        if typed is None:
            return
        type_ = typed.type or event.name.decode(errors="replace")
        if type_ in TERMINAL and typed.response:
            self._response = typed.response
        elif type_ == "response.output_item.done" and typed.item:
            self._items[len(self._items) if typed.output_index is None else typed.output_index] = typed.item

    def document(self) -> bytes | None:
        if self._response is None:
            return None
        members = read(_MEMBERS, bytes(self._response)) if self._items else None
        if members is None or is_given(members.get("output", msgspec.Raw())):
            return bytes(self._response)
        items = [self._items[index] for index in sorted(self._items)]
        return msgspec.json.encode({**members, "output": items})


class TranscriptCollector:
    """Keeps the text of the event that ends a transcript."""

    def __init__(self) -> None:
        self._document: bytes | None = None

    def add(self, event: Event) -> None:
        found = read(ANY_OBJECT, event.content)
        if found is not None and found.get("type") == "transcript.text.done":
            del found["type"]
            self._document = msgspec.json.encode(found)

    def document(self) -> bytes | None:
        return self._document


class ImageCollector:
    """Keeps the final images, without partial ones."""

    def __init__(self) -> None:
        self._head: dict[str, Any] = {}
        self._images: list[Mapping[str, Any]] = []

    def add(self, event: Event) -> None:
        found = read(_TYPED_IMAGE, event.content)
        if found is None or not found.type.endswith(".completed"):
            return
        image = msgspec.json.decode(event.content)
        self._head = {name: image[name] for name in _SHARED_MEMBERS if name in image}
        self._images.append({"b64_json": image.get("b64_json")})

    def document(self) -> bytes | None:
        if not self._images:
            return None
        head = {"created" if name == "created_at" else name: value for name, value in self._head.items()}
        return msgspec.json.encode({**head, "data": self._images})


class _Typed(msgspec.Struct):
    type: str = ""
    response: msgspec.Raw = msgspec.Raw()
    item: msgspec.Raw = msgspec.Raw()
    output_index: int | None = None


class _TypedImage(msgspec.Struct):
    type: str = ""


_MEMBERS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_TYPED: Final = msgspec.json.Decoder(_Typed)
_TYPED_IMAGE: Final = msgspec.json.Decoder(_TypedImage)
_SHARED_MEMBERS: Final = ("created_at", "size", "quality", "background", "output_format", "usage")

_COLLECTORS: Final[Mapping[str, Callable[[], Collector]]] = {
    "openai.chat": ChunkCollector,
    "openai.completions": ChunkCollector,
    "openai.responses": ResponseCollector,
    "openai.response": ResponseCollector,
    "openai.transcriptions": TranscriptCollector,
    "openai.translations": TranscriptCollector,
    "openai.images": ImageCollector,
    "openai.image_edits": ImageCollector,
}
"""By endpoint; events of any other make no document."""


def collector(endpoint: Endpoint) -> Collector | None:
    make = _COLLECTORS.get(endpoint.name)
    return None if make is None else make()
