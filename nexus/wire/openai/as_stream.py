"""Converts documents into the streams that were requested, as client libraries cannot read a document then."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import msgspec

from nexus.domain.request import Endpoint
from nexus.wire.documents import ANY_OBJECT, read


def as_stream(endpoint: Endpoint, body: bytes) -> bytes | None:
    convert = _CONVERTERS.get(endpoint.name)
    document = None if convert is None else read(ANY_OBJECT, body)
    if convert is None or document is None:
        return None
    events = list(convert(document))
    return b"".join(events) if events else None


def _chat_events(document: dict[str, Any]) -> Iterator[bytes]:
    yield from _chunks(document, "chat.completion.chunk", _delta_of)


def _text_events(document: dict[str, Any]) -> Iterator[bytes]:
    yield from _chunks(document, "text_completion", lambda choice: {"text": choice.get("text")})


def _chunks(
    document: dict[str, Any], name: str, content_of: Callable[[dict[str, Any]], Mapping[str, Any]]
) -> Iterator[bytes]:
    choices, usage = document.pop("choices", None), document.pop("usage", None)
    if not isinstance(choices, list) or not choices or not all(isinstance(choice, dict) for choice in choices):
        return
    # The model must precede all text, for its name to be restored.
    head = {**{name: document.get(name) for name in ("id", "object", "created", "model")}, **document, "object": name}
    for place, choice in enumerate(choices):
        begun = {"index": choice.get("index", place), **content_of(choice), "logprobs": choice.get("logprobs")}
        yield _event({**head, "choices": [{**begun, "finish_reason": None}]})
    for place, choice in enumerate(choices):
        nothing: Mapping[str, Any] = {"delta": {}} if "message" in choice else {"text": ""}
        ended = {"index": choice.get("index", place), **nothing, "finish_reason": choice.get("finish_reason") or "stop"}
        # With the last finish reason: some clients fail on a chunk without choices that they did not request.
        last = {"usage": usage} if usage is not None and place == len(choices) - 1 else {}
        yield _event({**head, "choices": [ended], **last})
    yield b"data: [DONE]\n\n"


def _delta_of(choice: dict[str, Any]) -> Mapping[str, Any]:
    message = choice.get("message")
    delta = {"role": "assistant", **message} if isinstance(message, dict) else {}
    calls = delta.get("tool_calls")
    if isinstance(calls, list):
        delta["tool_calls"] = [{"index": index, **call} for index, call in enumerate(calls) if isinstance(call, dict)]
    return {"delta": delta}


def _response_events(document: dict[str, Any]) -> Iterator[bytes]:
    output = document.get("output")
    if document.get("object") != "response" or not isinstance(output, list):
        return
    numbered = _Numbered()
    begun = {**document, "status": "in_progress", "output": [], "usage": None}
    yield numbered.event("response.created", response=begun)
    yield numbered.event("response.in_progress", response=begun)
    for index, item in enumerate(output):
        if isinstance(item, dict):
            yield from _item_events(numbered, index, item)
    status = document.get("status")
    last = status if status in ("incomplete", "failed") else "completed"
    yield numbered.event(f"response.{last}", response=document)


def _item_events(numbered: "_Numbered", index: int, item: dict[str, Any]) -> Iterator[bytes]:
    place = {"output_index": index, "item_id": item.get("id")}
    parts = item.get("content") if item.get("type") == "message" else None
    is_call = item.get("type") == "function_call"
    begun = {
        **item,
        "status": "in_progress",
        **({"content": []} if parts else {}),
        **({"arguments": ""} if is_call else {}),
    }
    yield numbered.event("response.output_item.added", output_index=index, item=begun)
    for content_index, part in enumerate(parts if isinstance(parts, list) else ()):
        if isinstance(part, dict):
            yield from _part_events(numbered, {**place, "content_index": content_index}, part)
    if is_call:
        arguments = item.get("arguments")
        yield numbered.event("response.function_call_arguments.delta", **place, delta=arguments)
        yield numbered.event(
            "response.function_call_arguments.done", **place, name=item.get("name"), arguments=arguments
        )
    yield numbered.event("response.output_item.done", output_index=index, item=item)


def _part_events(numbered: "_Numbered", place: Mapping[str, Any], part: dict[str, Any]) -> Iterator[bytes]:
    member = "refusal" if part.get("type") == "refusal" else "text"
    text = part.get(member)
    kind = "refusal" if member == "refusal" else "output_text"
    logprobs = {} if member == "refusal" else {"logprobs": part.get("logprobs") or []}
    yield numbered.event("response.content_part.added", **place, part={**part, member: ""})
    yield numbered.event(f"response.{kind}.delta", **place, delta=text, **logprobs)
    yield numbered.event(f"response.{kind}.done", **place, **{member: text}, **logprobs)
    yield numbered.event("response.content_part.done", **place, part=part)


class _Numbered:
    """Builds events with sequence numbers."""

    def __init__(self) -> None:
        self._next = 0

    def event(self, type_: str, **members: Any) -> bytes:
        number, self._next = self._next, self._next + 1
        return _event({"type": type_, "sequence_number": number, **members}, name=type_)


def _transcript_events(document: dict[str, Any]) -> Iterator[bytes]:
    text = document.get("text")
    if isinstance(text, str):
        yield _event({"type": "transcript.text.delta", "delta": text})
        usage = {"usage": document["usage"]} if document.get("usage") else {}
        yield _event({"type": "transcript.text.done", "text": text, **usage})


def _event(content: Mapping[str, Any], *, name: str = "") -> bytes:
    line = f"event: {name}\n".encode() if name else b""
    return b"%bdata: %b\n\n" % (line, msgspec.json.encode(content))


_CONVERTERS: Final[Mapping[str, Callable[[dict[str, Any]], Iterator[bytes]]]] = {
    "openai.chat": _chat_events,
    "openai.completions": _text_events,
    "openai.responses": _response_events,
    "openai.response": _response_events,
    "openai.transcriptions": _transcript_events,
    "openai.translations": _transcript_events,
}
"""By endpoint; documents of any other are passed on unchanged."""
