"""Finds the result of each tool call in the history of a chat."""

from collections import deque
from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import Final, Literal

import msgspec

from nexus.translation.chat import Message, Part, ToolCall, ToolResult
from nexus.translation.signed_ids import split

_HASH_CHARACTERS: Final = 24


class PairedCall(msgspec.Struct):
    """A call, and its result."""

    id: str
    """As backends get it: the same in each request of a conversation."""
    name: str
    arguments: str
    signature: str
    """Of Google; empty: none."""
    kind: Literal["function", "custom"] = "function"
    result: ToolResult | None = None


class Pairing:
    """The calls and results of one history.

    Where a dialect has no ids, results belong to the calls with their name, else to the calls in their order.
    """

    def __init__(self, messages: Sequence[Message], max_id_characters: int | None) -> None:
        self._max_id_characters = max_id_characters
        self._calls: dict[int, list[PairedCall]] = {}
        """By the place of their message."""
        self._parts: dict[int, tuple[Part, ...]] = {}
        """What is not a result with a call, by the place of the message."""
        self._count = 0
        self._ids: set[str] = set()
        self._waiting: dict[int, PairedCall] = {}
        """Calls without a result, by their number in the history."""
        self._in_order: deque[int] = deque()
        self._by_id: dict[str, deque[int]] = {}
        self._by_name: dict[str, deque[int]] = {}
        """The numbers of calls, of which some may have a result."""
        self._answered: set[str] = set()
        for place, message in enumerate(messages):
            if message.role == "assistant":
                self._calls[place] = [self._call(part) for part in message.parts if isinstance(part, ToolCall)]
            else:
                self._parts[place] = tuple(self._unpaired(message))

    def calls_of(self, place: int) -> Sequence[PairedCall]:
        """Return the calls of the assistant's message at *place*."""
        return self._calls.get(place, ())

    def parts_of(self, place: int) -> tuple[Part, ...]:
        """Return what the user's message at *place* has besides the results of calls."""
        return self._parts.get(place, ())

    def _call(self, call: ToolCall) -> PairedCall:
        self._count += 1
        own, signature = split(call.id)
        id_ = self._unused(own or f"call_{self._count}")
        if self._max_id_characters is not None and len(id_) > self._max_id_characters:
            id_ = f"call_{sha256(id_.encode()).hexdigest()[:_HASH_CHARACTERS]}"
        paired = PairedCall(id_, call.name, call.arguments, signature, call.kind)
        self._waiting[self._count] = paired
        self._in_order.append(self._count)
        self._by_id.setdefault(call.id, deque()).append(self._count)
        self._by_name.setdefault(call.name, deque()).append(self._count)
        return paired

    def _unused(self, wanted: str) -> str:
        """Return *wanted*, or one like it if a call has it: some servers count from zero in every answer."""
        id_, number = wanted, self._count
        while id_ in self._ids:
            id_, number = f"{wanted}_{number}", number + 1
        self._ids.add(id_)
        return id_

    def _unpaired(self, message: Message) -> Iterator[Part]:
        for part in message.parts:
            if not isinstance(part, ToolResult):
                yield part
            elif (call := self._taken(part)) is not None:
                call.result = part
                self._answered.add(part.call_id)
            elif not part.call_id or part.call_id not in self._answered:
                # What the client sent is not dropped only because the call was.
                yield from part.parts

    def _taken(self, result: ToolResult) -> PairedCall | None:
        """Return the call of *result*, which does not wait any more."""
        if result.call_id:
            return self._first(self._by_id.get(result.call_id))
        named = self._first(self._by_name.get(result.name))
        return self._first(self._in_order) if named is None else named

    def _first(self, numbers: deque[int] | None) -> PairedCall | None:
        """Return the first of the calls with these *numbers* that has no result."""
        while numbers:
            if (call := self._waiting.pop(numbers.popleft(), None)) is not None:
                return call
        return None
