"""Reads output items of backends with the Responses API, and the response object around them."""

from collections.abc import Iterator
from typing import Final

import msgspec

from nexus.translation.events import (
    AnswerEvent,
    End,
    Failure,
    Finish,
    Signature,
    TextPart,
    ThinkingPart,
    ToolArguments,
    ToolBegin,
    ToolEnd,
    Usage,
)
from nexus.translation.responses.errors import failure_in
from nexus.translation.responses.names import single_name
from nexus.translation.responses.signatures import signature_of_encrypted
from nexus.wire.documents import is_given, read
from nexus.wire.errors.status import UNKNOWN


class PartOut(msgspec.Struct, gc=False):
    """A part of a message, of a summary or of thoughts."""

    type: str | None = None
    text: str | None = None
    refusal: str | None = None


class ItemOut(msgspec.Struct):
    """Any output item; a type uses some of the members."""

    type: str | None = None
    id: str | None = None
    call_id: str | None = None
    name: str | None = None
    namespace: str | None = None
    arguments: msgspec.Raw = msgspec.Raw()
    input: msgspec.Raw = msgspec.Raw()
    content: list[PartOut] | None = None
    summary: list[PartOut] | None = None
    encrypted_content: str | None = None

    @property
    def is_call(self) -> bool:
        return self.type in ("function_call", "custom_tool_call")

    @property
    def text(self) -> str:
        """The text of a message."""
        return "".join(part.text or part.refusal or "" for part in self.content or ())

    @property
    def thoughts(self) -> str:
        """The thoughts in a reasoning item; of its two forms, the one that is not empty."""
        parts = [part.text for part in self.summary or () if part.text]
        return SEPARATOR.join(parts or [part.text for part in self.content or () if part.text])

    @property
    def call_text(self) -> str:
        """The arguments of a call, or its plain input."""
        raw = bytes(self.arguments if self.type == "function_call" else self.input)
        # Some servers send an object where the dialect has a string.
        return raw.decode(errors="replace") if raw.startswith(b"{") else read(_STRING, raw) or ""


SEPARATOR: Final = "\n\n"
"""Between the parts of a summary."""
_STRING: Final = msgspec.json.Decoder(str)


class _Details(msgspec.Struct, gc=False):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None


class _Usage(msgspec.Struct, gc=False):
    input_tokens: int | None = None
    output_tokens: int | None = None
    input_tokens_details: _Details | None = None
    output_tokens_details: _Details | None = None


class _Incomplete(msgspec.Struct, gc=False):
    reason: str | None = None


class ResponseOut(msgspec.Struct):
    """A whole answer; in a stream, what its first and last event contain."""

    id: str | None = None
    object: str | None = None
    model: str | None = None
    status: str | None = None
    output: msgspec.Raw = msgspec.Raw()
    usage: msgspec.Raw = msgspec.Raw()
    incomplete_details: msgspec.Raw = msgspec.Raw()
    error: msgspec.Raw = msgspec.Raw()

    @property
    def items(self) -> list[ItemOut]:
        """The output items, without those that cannot be read; an odd one must not make the answer fail."""
        items = read(_ITEMS, bytes(self.output))
        if items is None:
            each = read(_EACH, bytes(self.output))
            items = [item for raw in each or () if (item := read(_ITEM, bytes(raw))) is not None]
        return items


_ITEMS: Final = msgspec.json.Decoder(list[ItemOut])
_EACH: Final = msgspec.json.Decoder(list[msgspec.Raw])
_ITEM: Final = msgspec.json.Decoder(ItemOut)
_USAGE: Final = msgspec.json.Decoder(_Usage)
_INCOMPLETE: Final = msgspec.json.Decoder(_Incomplete)


def begin_of_call(index: int, item: ItemOut) -> ToolBegin:
    return ToolBegin(index, item.call_id or item.id or "", single_name(item.namespace, item.name or ""))


def events_of_item(index: int, item: ItemOut) -> Iterator[AnswerEvent]:
    """Yield a whole item; nothing for those of tools that the server runs."""
    if item.is_call:
        yield begin_of_call(index, item)
        if text := item.call_text:
            yield ToolArguments(index, text)
        yield ToolEnd(index)
    elif item.type == "message":
        if text := item.text:
            yield TextPart(text)
    elif item.type == "reasoning":
        if text := item.thoughts:
            yield ThinkingPart(text)
        yield from signature_of(item)


def signature_of(item: ItemOut) -> Iterator[AnswerEvent]:
    """Yield what only the server can read in a reasoning item, for it to come back with the next request."""
    if item.encrypted_content:
        yield Signature(signature_of_encrypted(item.id or "", item.encrypted_content))


def last_events(response: ResponseOut) -> Iterator[AnswerEvent]:
    """Yield how the answer ended, after all of its items."""
    if response.status in ("failed", "cancelled"):
        yield failure_of(response)
        return
    if (usage := read(_USAGE, bytes(response.usage))) is not None:
        yield _usage(usage)
    yield _finish(response)
    yield End()


def failure_of(response: ResponseOut) -> Failure:
    """Return the failure of a response that has failed."""
    if is_given(response.error):
        return failure_in(bytes(response.error))
    return Failure(UNKNOWN, f"the backend's response is {response.status or 'failed'}")


def _finish(response: ResponseOut) -> Finish:
    if response.status != "incomplete":
        return Finish("stop")
    details = read(_INCOMPLETE, bytes(response.incomplete_details))
    return Finish("content_filter" if details is not None and details.reason == "content_filter" else "length")


def _usage(usage: _Usage) -> Usage:
    read_, written = usage.input_tokens_details or _Details(), usage.output_tokens_details or _Details()
    return Usage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cached_tokens=read_.cached_tokens,
        cache_write_tokens=read_.cache_write_tokens,
        reasoning_tokens=written.reasoning_tokens,
    )
