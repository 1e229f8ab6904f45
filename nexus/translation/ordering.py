"""Puts the events of an answer into the order that encoders rely on."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import ClassVar, Final

import msgspec

from nexus.translation.events import (
    AnswerEvent,
    End,
    Failure,
    Finish,
    Reason,
    Start,
    TextPart,
    ThinkingPart,
    ToolArguments,
    ToolBegin,
    ToolEnd,
    Usage,
)
from nexus.wire.streams.event_buffer import MAX_EVENT_BYTES

NO_ARGUMENTS: Final = "{}"
MAX_HELD_CHARACTERS: Final = MAX_EVENT_BYTES
"""The limit of what is kept back of one answer."""
EVENT_CHARACTERS: Final = 100
"""What an event counts besides its text."""


class _Call(msgspec.Struct):
    index: int
    id: str = ""
    name: str = ""
    waiting: list[str] = []
    """Arguments that are not passed on yet."""
    is_open: bool = False
    """Whether its ``ToolBegin`` was passed on."""
    has_arguments: bool = False
    is_complete: bool = False


class Ordering:
    """One answer: passes events on, or keeps them back until their turn.

    - One tool call is open at a time. Arguments of the next ones wait until it ends: calls often come interleaved, and
      clients read them one after the other.
    - A call waits for its name, whatever of its arguments came before. Its id is made if none comes.
    - A call without arguments has ``{}``. Arguments that come after its end make the answer fail: nothing could be
      done with them that would not corrupt a call.
    - Text and thoughts that come within a call follow after the calls.
    - ``stop`` and ``tool_calls`` are ``tool_calls`` if there were any, else ``stop``; ``length`` stays, as a call that
      is cut short must not be run.
    - Usage is merged, and passed on before ``End``.
    - An answer of which too much must be kept back fails.
    - After ``End`` or a ``Failure`` nothing is passed on.
    """

    __slots__ = (
        "_after_calls",
        "_calls",
        "_ended",
        "_finish",
        "_has_calls",
        "_has_started",
        "_held_characters",
        "_is_over",
        "_made_id",
        "_usage",
    )

    def __init__(self, made_id: str) -> None:
        """*made_id* begins the ids of calls that have none; the same for a repeated request, unique otherwise."""
        self._calls: dict[int, _Call] = {}
        """Calls that are not complete, in the order in which they began."""
        self._after_calls: list[AnswerEvent] = []
        self._ended: set[int] = set()
        self._finish: Finish | None = None
        self._has_calls = False
        self._has_started = False
        self._held_characters = 0
        self._is_over = False
        self._made_id = made_id
        self._usage = Usage()

    def add(self, events: Iterable[AnswerEvent]) -> list[AnswerEvent]:
        """Return what may be passed on now."""
        return [passed for event in events for passed in self._add(event)]

    def _add(self, event: AnswerEvent) -> Iterator[AnswerEvent]:
        if not self._is_over:
            yield from self._METHODS.get(type(event), Ordering._part)(self, event)

    def _start(self, event: Start) -> Iterator[AnswerEvent]:
        if not self._has_started:
            self._has_started = True
            yield event

    def _note_finish(self, event: Finish) -> Iterator[AnswerEvent]:
        self._finish = event
        yield from ()

    def _count(self, event: Usage) -> Iterator[AnswerEvent]:
        self._usage = _merged(self._usage, event)
        if self._has_started and self._finish is None:
            yield self._usage

    def _fail(self, event: Failure) -> Iterator[AnswerEvent]:
        self._is_over = True
        yield event

    def _part(self, event: AnswerEvent) -> Iterator[AnswerEvent]:
        """Pass on a part that belongs to no call, unless one is open: then it waits until the calls have ended."""
        if self._calls:
            self._after_calls.append(event)
            yield from self._hold(event.text if isinstance(event, TextPart | ThinkingPart) else "")
            return
        if not self._has_started:
            self._has_started = True
            yield Start()
        yield event

    # tool calls

    def _begin(self, event: ToolBegin) -> Iterator[AnswerEvent]:
        if event.index in self._ended:
            return
        call = self._calls.get(event.index)
        if call is None:
            call = self._calls[event.index] = _Call(event.index)
        if not call.is_open:
            call.id, call.name = call.id or event.id, call.name or event.name
        yield from self._pass_on()

    def _arguments(self, event: ToolArguments) -> Iterator[AnswerEvent]:
        if not event.text:
            return
        if event.index in self._ended:
            yield from self._fail(Failure(502, "the backend continued a tool call that it had ended", "bad_gateway"))
            return
        call = self._calls.get(event.index)
        if call is None:
            call = self._calls[event.index] = _Call(event.index)
        if call.is_open:
            call.has_arguments = True
            yield event
        else:
            call.waiting.append(event.text)
            yield from self._hold(event.text)

    def _hold(self, text: str) -> Iterator[AnswerEvent]:
        """Count an event that is kept back, and fail if it is one too many."""
        self._held_characters += len(text) + EVENT_CHARACTERS
        if self._held_characters > MAX_HELD_CHARACTERS:
            self._calls.clear()
            self._after_calls.clear()
            text = "the backend sent more of other parts within a tool call than the proxy keeps back"
            yield from self._fail(Failure(502, text, "event_too_large"))

    def _end(self, event: ToolEnd) -> Iterator[AnswerEvent]:
        if (call := self._calls.get(event.index)) is not None:
            call.is_complete = True
            yield from self._pass_on()

    def _pass_on(self) -> Iterator[AnswerEvent]:
        """Open the first call once it has a name, and close it once it is complete; then go on with the next one."""
        while self._calls:
            call = next(iter(self._calls.values()))
            if not call.is_open:
                if not call.name:
                    return
                yield from self._open(call)
            if not call.is_complete:
                return
            yield from self._close_first()
        yield from self._release()

    def _open(self, call: _Call) -> Iterator[AnswerEvent]:
        if not self._has_started:
            self._has_started = True
            yield Start()
        self._has_calls = call.is_open = True
        yield ToolBegin(call.index, call.id or f"{self._made_id}{call.index}", call.name)
        for text in call.waiting:
            call.has_arguments = True
            yield ToolArguments(call.index, text)
        call.waiting = []

    def _close_first(self) -> Iterator[AnswerEvent]:
        index = next(iter(self._calls))
        call = self._calls.pop(index)
        self._ended.add(index)
        if not call.has_arguments:
            yield ToolArguments(index, NO_ARGUMENTS)
        yield ToolEnd(index)

    def _end_calls(self) -> Iterator[AnswerEvent]:
        """Close all calls. One that never got a name is dropped: no client could run it."""
        while self._calls:
            call = next(iter(self._calls.values()))
            if not call.is_open:
                if not call.name:
                    self._ended.add(call.index)
                    del self._calls[call.index]
                    continue
                yield from self._open(call)
            yield from self._close_first()
        yield from self._release()

    def _release(self) -> Iterator[AnswerEvent]:
        waiting, self._after_calls = self._after_calls, []
        yield from waiting

    # the end

    def _close(self, _event: End) -> Iterator[AnswerEvent]:
        self._is_over = True
        if not self._has_started:
            yield Start()
        yield from self._end_calls()
        finish = self._finish or Finish("stop")
        reason: Reason = finish.reason
        if reason in ("stop", "tool_calls"):
            reason = "tool_calls" if self._has_calls else "stop"
        yield Finish(reason, finish.stop_sequence)
        yield self._usage
        yield End()

    _METHODS: ClassVar[Mapping[type[AnswerEvent], Callable[..., Iterator[AnswerEvent]]]] = {
        Start: _start,
        ToolBegin: _begin,
        ToolArguments: _arguments,
        ToolEnd: _end,
        Finish: _note_finish,
        Usage: _count,
        Failure: _fail,
        End: _close,
    }
    """What is done with each event; any other is a part of the answer."""


def _merged(old: Usage, new: Usage) -> Usage:
    return Usage(
        old.input_tokens if new.input_tokens is None else new.input_tokens,
        old.output_tokens if new.output_tokens is None else new.output_tokens,
        old.cached_tokens if new.cached_tokens is None else new.cached_tokens,
        old.cache_write_tokens if new.cache_write_tokens is None else new.cache_write_tokens,
        old.reasoning_tokens if new.reasoning_tokens is None else new.reasoning_tokens,
    )
