"""Pairs the calls of tools with their results, in messages that follow each other, as Anthropic's API requires it."""

from collections.abc import Iterable, Sequence

import msgspec
from msgspec.structs import replace

from nexus.translation.chat import Message, Part, Text, ToolCall, ToolResult

MISSING = Text("There is no result of this call.")


def paired(messages: Sequence[Message]) -> tuple[Message, ...]:
    """Return *messages* with every call answered, by a message that follows at once and has nothing but results.

    - Calls have ids, each once in the conversation: some servers count from zero in every answer, or give none.
    - Results are in the order of their calls, with the name of the tool. Of two for the same call, the first counts; a
      call without one has one that says so.
    - A result without a call is a text.
    - Calls in messages that follow each other are one message's. What came between calls and results comes after them.
    """
    if not any(isinstance(part, ToolCall | ToolResult) for message in messages for part in message.parts):
        return tuple(messages)
    pairing = _Pairing()
    for message in messages:
        if message.role == "assistant":
            pairing.add_answer(message.parts)
        else:
            pairing.add(message)
    pairing.close()
    return tuple(pairing.messages)


class _Open(msgspec.Struct):
    """A call of the last answer."""

    client_id: str
    id: str
    name: str
    result: ToolResult | None = None


class _Pairing:
    def __init__(self) -> None:
        self.messages: list[Message] = []
        self._ids: set[str] = set()
        self._calls: list[_Open] = []
        """Of the last answer."""
        self._after: list[Message] = []
        """What comes after their results."""
        self._has_results = False

    def add_answer(self, parts: Iterable[Part]) -> None:
        is_continued = self._calls and not self._has_results and not self._after
        if not is_continued:
            self.close()
        named = tuple(self._opened(part) if isinstance(part, ToolCall) else part for part in parts)
        if is_continued:
            self.messages[-1] = Message("assistant", (*self.messages[-1].parts, *named))
        else:
            self.messages.append(Message("assistant", named))

    def add(self, message: Message) -> None:
        rest: list[Part] = []
        for part in message.parts:
            if isinstance(part, ToolResult):
                rest += self._taken(part)
            else:
                rest.append(part)
        if rest or not message.parts:
            (self._after if self._calls else self.messages).append(Message(message.role, tuple(rest)))

    def close(self) -> None:
        """Add the results of the last calls, and what came between."""
        if self._calls:
            results = (call.result or ToolResult(call.id, (MISSING,), call.name) for call in self._calls)
            self.messages.append(Message("user", tuple(results)))
        self.messages += self._after
        self._calls, self._after, self._has_results = [], [], False

    def _opened(self, call: ToolCall) -> ToolCall:
        id_, number = call.id, 0
        while not id_ or id_ in self._ids:
            id_, number = f"{call.id or 'call'}_{number}", number + 1
        self._ids.add(id_)
        self._calls.append(_Open(call.id, id_, call.name))
        return call if id_ == call.id else replace(call, id=id_)

    def _taken(self, result: ToolResult) -> Iterable[Part]:
        """Keep *result* for its call, or return what it says if there is none."""
        calls = [call for call in self._calls if self._is_of(result, call)]
        if not calls:
            return result.parts
        call = next((call for call in calls if call.result is None), None)
        if call is not None:
            self._has_results = True
            call.result = replace(result, call_id=call.id, name=result.name or call.name)
        return ()

    @staticmethod
    def _is_of(result: ToolResult, call: _Open) -> bool:
        if result.call_id:
            return result.call_id == call.client_id
        return not result.name or result.name == call.name
