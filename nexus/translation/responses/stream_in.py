"""Reads streams of backends with the Responses API."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import ClassVar, Final

import msgspec

from nexus.translation.events import AnswerEvent, Start, TextPart, ThinkingPart, ToolArguments, ToolEnd
from nexus.translation.responses.errors import failure_in
from nexus.translation.responses.output_in import (
    SEPARATOR,
    ItemOut,
    ResponseOut,
    begin_of_call,
    events_of_item,
    failure_of,
    last_events,
    signature_of,
)
from nexus.wire.documents import is_given, read
from nexus.wire.streams.event import Event


class _Event(msgspec.Struct):
    """Any event; a type uses some of the members."""

    type: str | None = None
    delta: str | None = None
    output_index: int | None = None
    content_index: int | None = None
    summary_index: int | None = None
    item_id: str | None = None
    item: ItemOut | None = None
    text: str | None = None
    refusal: str | None = None
    arguments: str | None = None
    input: str | None = None
    response: ResponseOut | None = None
    error: msgspec.Raw = msgspec.Raw()


_EVENT: Final = msgspec.json.Decoder(_Event)


class ResponsesDecoder:
    """One stream.

    Some servers send an item's content only when it is complete, or only with the last event, and others nothing with
    the last event: what was not passed on before is passed on where it first comes.
    """

    __slots__ = ("_done", "_ids", "_parts", "_passed", "_thoughts", "_types")

    def __init__(self) -> None:
        self._done: set[int] = set()
        """The items that are complete."""
        self._ids: dict[str, int] = {}
        """The place of each item by its ids; some servers give the places only once, or not at all."""
        self._parts: set[tuple[int, int]] = set()
        """The parts of items that were passed on, by the places of both."""
        self._passed: set[int] = set()
        """The items with content that was passed on."""
        self._thoughts: dict[int, str] = {}
        """In which form the thoughts of an item were passed on: some servers send a summary and the whole."""
        self._types: set[str] = set()
        """The types of what was passed on."""

    def decode(self, event: Event) -> Iterable[AnswerEvent]:
        found = read(_EVENT, event.content)
        if found is None:
            return ()
        read_event = self._METHODS.get(found.type or event.name.decode(errors="replace"))
        if read_event is not None:
            return read_event(self, found)
        # Some servers break off with an error of another API.
        return (failure_in(event.content),) if found.type == "error" or is_given(found.error) else ()

    def _start(self, event: _Event) -> Iterator[AnswerEvent]:
        if event.response is not None:
            yield Start(event.response.id or "", event.response.model or "")

    def _add_item(self, event: _Event) -> Iterator[AnswerEvent]:
        if event.item is not None:
            index = self._place_of(event, event.item)
            if event.item.is_call:
                yield begin_of_call(index, event.item)

    def _text(self, event: _Event) -> Iterator[AnswerEvent]:
        if event.delta:
            self._note(self._index_of(event), event, "message")
            yield TextPart(event.delta)

    def _text_done(self, event: _Event) -> Iterator[AnswerEvent]:
        index, text = self._index_of(event), event.text or event.refusal
        if text and (index, _part_of(event)) not in self._parts:
            self._note(index, event, "message")
            yield TextPart(text)

    def _arguments(self, event: _Event) -> Iterator[AnswerEvent]:
        if event.delta:
            index = self._index_of(event)
            self._passed.add(index)
            yield ToolArguments(index, event.delta)

    def _arguments_done(self, event: _Event) -> Iterator[AnswerEvent]:
        index, text = self._index_of(event), event.arguments or event.input
        if text and index not in self._passed:
            self._passed.add(index)
            yield ToolArguments(index, text)

    def _thinking(self, event: _Event) -> Iterator[AnswerEvent]:
        index, form = self._index_of(event), _form_of(event)
        if event.delta and self._thoughts.setdefault(index, form) == form:
            self._note(index, event, "reasoning")
            yield ThinkingPart(event.delta)

    def _thinking_done(self, event: _Event) -> Iterator[AnswerEvent]:
        index, form = self._index_of(event), _form_of(event)
        is_new = (index, _part_of(event)) not in self._parts
        if event.text and is_new and self._thoughts.setdefault(index, form) == form:
            self._note(index, event, "reasoning")
            yield ThinkingPart(event.text)

    def _next_summary(self, event: _Event) -> Iterator[AnswerEvent]:
        if self._thoughts.get(self._index_of(event)) == _SUMMARY:
            yield ThinkingPart(SEPARATOR)

    def _end_item(self, event: _Event) -> Iterator[AnswerEvent]:
        if event.item is not None:
            yield from self._whole(self._place_of(event, event.item), event.item)

    def _end(self, event: _Event) -> Iterator[AnswerEvent]:
        response = event.response or ResponseOut()
        for position, item in enumerate(response.items):
            index = self._known(item)
            if index is None and item.type not in self._types:
                index = _UNKNOWN_PLACE - position
            if index is not None and index not in self._done:
                yield from self._whole(index, item)
        yield from last_events(response)

    def _incomplete(self, event: _Event) -> Iterator[AnswerEvent]:
        event.response = event.response or ResponseOut()
        event.response.status = "incomplete"
        yield from self._end(event)

    def _fail(self, event: _Event) -> Iterator[AnswerEvent]:
        yield failure_of(event.response or ResponseOut())

    def _whole(self, index: int, item: ItemOut) -> Iterator[AnswerEvent]:
        """Yield what of a complete item was not passed on before."""
        self._done.add(index)
        if index not in self._passed:
            self._passed.add(index)
            yield from events_of_item(index, item)
        elif item.is_call:
            yield ToolEnd(index)
        else:
            yield from signature_of(item)

    def _note(self, index: int, event: _Event, type_: str) -> None:
        self._passed.add(index)
        self._parts.add((index, _part_of(event)))
        self._types.add(type_)

    def _place_of(self, event: _Event, item: ItemOut) -> int:
        """Return the place of *item*, and remember it by its ids."""
        known = self._known(item)
        index = event.output_index if event.output_index is not None else len(self._ids) if known is None else known
        for id_ in (item.id, item.call_id):
            if id_:
                self._ids[id_] = index
        return index

    def _known(self, item: ItemOut) -> int | None:
        return next((self._ids[id_] for id_ in (item.call_id, item.id) if id_ and id_ in self._ids), None)

    def _index_of(self, event: _Event) -> int:
        if event.output_index is not None:
            return event.output_index
        return self._ids.setdefault(event.item_id or "", len(self._ids))

    _METHODS: ClassVar[Mapping[str, Callable[..., Iterator[AnswerEvent]]]] = {
        "response.created": _start,
        "response.in_progress": _start,
        "response.output_item.added": _add_item,
        "response.output_item.done": _end_item,
        "response.output_text.delta": _text,
        "response.output_text.done": _text_done,
        "response.refusal.delta": _text,
        "response.refusal.done": _text_done,
        "response.function_call_arguments.delta": _arguments,
        "response.function_call_arguments.done": _arguments_done,
        "response.custom_tool_call_input.delta": _arguments,
        "response.custom_tool_call_input.done": _arguments_done,
        "response.reasoning_summary_part.added": _next_summary,
        "response.reasoning_summary_text.delta": _thinking,
        "response.reasoning_summary_text.done": _thinking_done,
        "response.reasoning_text.delta": _thinking,
        "response.reasoning_text.done": _thinking_done,
        "response.completed": _end,
        "response.incomplete": _incomplete,
        "response.failed": _fail,
    }
    """By type; other events report what tools of the server do, or repeat what these say."""


_UNKNOWN_PLACE: Final = -1
"""From here on downwards, places are made for items that only the last event has."""
_SUMMARY: Final = "summary"


def _part_of(event: _Event) -> int:
    return event.content_index or event.summary_index or 0


def _form_of(event: _Event) -> str:
    return _SUMMARY if event.type is not None and "summary" in event.type else "whole"
