"""Reads streams of OpenAI's chat dialect."""

from collections.abc import Sequence
from typing import Final

from nexus.translation.events import AnswerEvent, End, Start, ToolArguments, ToolBegin
from nexus.translation.openai.documents import document_in
from nexus.translation.openai.errors import failure_in
from nexus.translation.openai.message import Call, Choice, add_text, finish_of
from nexus.translation.openai.usage import usage_in
from nexus.translation.signed_ids import signed
from nexus.wire.streams.event import Event

DONE: Final = b"[DONE]"


class ChatStreamDecoder:
    """One stream of chunks.

    Only the first choice is read: requests for more than one are not translated. What one chunk has of several kinds is
    yielded in the order thoughts, text, tool calls, finish, usage.
    """

    __slots__ = ("_calls", "_has_refused", "_has_started", "_last_call")

    def __init__(self) -> None:
        self._has_started = False
        self._has_refused = False
        self._calls: dict[int | None, tuple[int, str]] = {}
        """By the index that the backend uses, None for none: the index of the events, and the id of the call."""
        self._last_call = -1
        """The highest index of the events."""

    def decode(self, event: Event) -> Sequence[AnswerEvent]:
        content = event.content
        document = document_in(content)
        if document is None:
            return (End(),) if content.strip() == DONE else ()
        if document.is_error():
            return (failure_in(content),)
        found: list[AnswerEvent] = []
        if not self._has_started:
            self._has_started = True
            found.append(Start(document.id or "", document.model or ""))
        for choice in document.choices or ():
            if not choice.index:
                self._add_choice(choice, found)
        if document.usage is not None:
            found.append(usage_in(document.usage))
        return found

    def _add_choice(self, choice: Choice, found: list[AnswerEvent]) -> None:
        # Some servers send the whole message in place of what it adds.
        said = choice.delta or choice.message
        if said is not None:
            add_text(said, found)
            if said.refusal:
                self._has_refused = True
            for call in said.tool_calls or ():
                self._add_call(call, found)
        if choice.finish_reason:
            found.append(finish_of(choice, has_refused=self._has_refused))

    def _add_call(self, call: Call, found: list[AnswerEvent]) -> None:
        function = call.function
        name = (function.name if function else None) or ""
        index = self._index_of(call, name)
        if call.id or name:
            signature = call.signature
            id_ = signed(call.id or f"call{index}", signature) if signature else call.id or ""
            found.append(ToolBegin(index, id_, name))
        if function and function.arguments:
            found.append(ToolArguments(index, function.arguments))

    def _index_of(self, call: Call, name: str) -> int:
        """Return the index of the call that *call* is a part of.

        Some engines send no index, so that each name begins a call; Google's API has sent the same one for all calls,
        so that a name with a new id begins one.
        """
        known = self._calls.get(call.index)
        if known is not None:
            index, id_ = known
            is_new_id = call.id != id_ if call.index is None else bool(call.id and id_ and call.id != id_)
            if not (name and is_new_id):
                if call.id and not id_:
                    self._calls[call.index] = index, call.id
                return index
        self._last_call += 1
        self._calls[call.index] = self._last_call, call.id or ""
        return self._last_call
