"""Writes the events of one output item: thoughts, a message or a tool call."""

from abc import ABC, abstractmethod
from typing import Final, Literal

import msgspec

from nexus.translation.chat import KnownAs, Thinking
from nexus.translation.responses.document import one_line
from nexus.translation.responses.fixed_tools import FIXED_TOOLS, member_of_call
from nexus.translation.responses.signatures import packed

Status = Literal["completed", "incomplete"]

_EVENT: Final = b'event: %b\ndata: {"type":"%b","sequence_number":%d,%b}\n\n'
_DELTA: Final = b'event: %b\ndata: {"type":"%b","sequence_number":%%d,%b,"delta":%%b}\n\n'


class EventWriter:
    """Writes events with their numbers."""

    __slots__ = ("number",)

    def __init__(self) -> None:
        self.number = 0
        """Of the next event."""

    def event(self, type_: bytes, members: bytes) -> bytes:
        """Return an event with these further *members*."""
        number, self.number = self.number, self.number + 1
        return _EVENT % (type_, type_, number, members)


class Block(ABC):
    """One output item, from its first event to its last; its text comes in pieces."""

    __slots__ = ("_delta", "_index", "_item_id", "_pieces", "_place", "_writer")

    delta_type: bytes
    """The type of the event for a piece."""
    place: bytes = b""
    """Where in the item the text is: members of the events about it."""

    def __init__(self, writer: EventWriter, index: int, item_id: str) -> None:
        """*index* is the place of the item in the output; *item_id* has only letters, digits, ``_`` and ``-``."""
        self._writer = writer
        self._index = index
        self._item_id = item_id.encode()
        self._pieces: list[bytes] = []
        """The text so far, escaped as in a JSON string."""
        self._place = b'"item_id":"%b","output_index":%d%b' % (self._item_id, index, self.place)
        self._delta = _DELTA % (self.delta_type, self.delta_type, self._place)

    def open(self) -> bytes:
        """Return the events that begin the item."""
        return self._item_event(b"response.output_item.added", self._begun()) + self._opening()

    def add(self, text: str) -> bytes:
        """Return the event for more of the text."""
        piece = msgspec.json.encode(text)
        self._pieces.append(piece[1:-1])
        writer = self._writer
        number = writer.number
        writer.number = number + 1
        return self._delta % (number, piece)

    def close(self, status: Status) -> bytes:
        """Return the events that end the item."""
        return self._closing(self._text()) + self._item_event(b"response.output_item.done", self.item(status))

    def item(self, status: Status) -> bytes:
        """Return the JSON of the item as it is now."""
        return self._ended(self._text(), status)

    def _text(self) -> bytes:
        return b'"%b"' % b"".join(self._pieces)

    def _item_event(self, type_: bytes, item: bytes) -> bytes:
        return self._writer.event(type_, b'"output_index":%d,"item":%b' % (self._index, item))

    def _event(self, type_: bytes, members: bytes) -> bytes:
        return self._writer.event(type_, self._place + members)

    @abstractmethod
    def _begun(self) -> bytes:
        """Return the JSON of the item before it has any content."""

    @abstractmethod
    def _ended(self, text: bytes, status: Status) -> bytes:
        """Return the JSON of the item with this *text*, which is JSON."""

    @abstractmethod
    def _closing(self, text: bytes) -> bytes:
        """Return the events between the text and the item's last one."""

    def _opening(self) -> bytes:
        """Return the events between the item's first one and its text."""
        return b""


class MessageBlock(Block):
    """Text of the model."""

    __slots__ = ()

    delta_type = b"response.output_text.delta"
    place = b',"content_index":0,"logprobs":[]'

    def _begun(self) -> bytes:
        return self._message(b"in_progress", b"")

    def _ended(self, text: bytes, status: Status) -> bytes:
        return self._message(status.encode(), self._part(text))

    def _opening(self) -> bytes:
        return self._part_event(b"response.content_part.added", b'""')

    def _closing(self, text: bytes) -> bytes:
        return self._event(b"response.output_text.done", b',"text":' + text) + self._part_event(
            b"response.content_part.done", text
        )

    def _part_event(self, type_: bytes, text: bytes) -> bytes:
        members = b'"item_id":"%b","output_index":%d,"content_index":0,"part":%b'
        return self._writer.event(type_, members % (self._item_id, self._index, self._part(text)))

    @staticmethod
    def _part(text: bytes) -> bytes:
        return b'{"type":"output_text","text":%b,"annotations":[],"logprobs":[]}' % text

    def _message(self, status: bytes, content: bytes) -> bytes:
        item = b'{"id":"%b","type":"message","status":"%b","role":"assistant","content":[%b]}'
        return item % (self._item_id, status, content)


class ReasoningBlock(Block):
    """Thoughts of the model, as a summary, which clients show."""

    __slots__ = ("_is_kept", "_redacted", "_signature")

    delta_type = b"response.reasoning_summary_text.delta"
    place = b',"summary_index":0'

    is_summary = True
    """Whether clients send the text back as they got it."""

    def __init__(self, writer: EventWriter, index: int, item_id: str, *, is_kept: bool) -> None:
        """*is_kept*: the client asks for a content that it can send back."""
        super().__init__(writer, index, item_id)
        self._is_kept = is_kept
        self._signature = self._redacted = ""

    @property
    def is_signed(self) -> bool:
        """Whether nothing more belongs to the item."""
        return bool(self._signature or self._redacted)

    def sign(self, signature: str) -> None:
        self._signature = signature

    def redact(self, redacted: str) -> None:
        self._redacted = redacted

    def add(self, text: str) -> bytes:
        """Return the events for more of the text; a part begins with its first."""
        begin = b"" if self._pieces else self._part_event(b"added", b'""')
        return begin + super().add(text)

    def _begun(self) -> bytes:
        return self._item(b"")

    def _ended(self, text: bytes, status: Status) -> bytes:  # noqa: ARG002 - an item of this type has no status
        item = self._item(self._part(text) if self._pieces else b"")
        if not (self.is_signed or (self._is_kept and not self.is_summary)):
            return item
        plain = "" if self.is_summary else msgspec.json.decode(text, type=str)
        encrypted = packed(Thinking(plain, self._signature, self._redacted))
        return b'%b,"encrypted_content":"%b"}' % (item[:-1], encrypted.encode())

    def _closing(self, text: bytes) -> bytes:
        if not self._pieces:
            return b""
        done = self._event(b"response.reasoning_summary_text.done", b',"text":' + text)
        return done + self._part_event(b"done", text)

    def _part_event(self, what: bytes, text: bytes) -> bytes:
        return self._event(b"response.reasoning_summary_part." + what, b',"part":' + self._part(text))

    @staticmethod
    def _part(text: bytes) -> bytes:
        return b'{"type":"summary_text","text":%b}' % text

    def _item(self, summary: bytes) -> bytes:
        return b'{"id":"%b","type":"reasoning","summary":[%b]}' % (self._item_id, summary)


class RawReasoningBlock(ReasoningBlock):
    """Thoughts of the model as they are, for clients that did not ask for a summary.

    Some of them, such as Codex, send back nothing but the encrypted content.
    """

    __slots__ = ()

    is_summary = False

    delta_type = b"response.reasoning_text.delta"
    place = b',"content_index":0'

    def _closing(self, text: bytes) -> bytes:
        if not self._pieces:
            return b""
        return self._event(b"response.reasoning_text.done", b',"text":' + text) + self._part_event(b"done", text)

    def _part_event(self, what: bytes, text: bytes) -> bytes:
        return self._event(b"response.content_part." + what, b',"part":' + self._part(text))

    @staticmethod
    def _part(text: bytes) -> bytes:
        return b'{"type":"reasoning_text","text":%b}' % text

    def _item(self, summary: bytes) -> bytes:
        item = super()._item(b"")
        return item[:-1] + b',"content":[%b]}' % summary if summary else item


class CallBlock(Block):
    """A call of a function."""

    __slots__ = ("_members", "_name")

    delta_type = b"response.function_call_arguments.delta"
    done_type = b"response.function_call_arguments.done"
    item_type = b"function_call"
    text_name = b"arguments"

    def __init__(self, writer: EventWriter, index: int, item_id: str, call_id: str, known_as: KnownAs) -> None:
        super().__init__(writer, index, item_id)
        self._name = b'"name":' + msgspec.json.encode(known_as.name)
        self._members = b'"call_id":%b,%b' % (msgspec.json.encode(call_id), self._name)
        if known_as.namespace:
            self._members += b',"namespace":' + msgspec.json.encode(known_as.namespace)

    def _begun(self) -> bytes:
        return self._item(b"in_progress", b'""')

    def _ended(self, text: bytes, status: Status) -> bytes:
        return self._item(status.encode(), text)

    def _closing(self, text: bytes) -> bytes:
        return self._event(self.done_type, b',%b,"%b":%b' % (self._name, self.text_name, text))

    def _item(self, status: bytes, text: bytes) -> bytes:
        item = b'{"id":"%b","type":"%b","status":"%b",%b,"%b":%b}'
        return item % (self._item_id, self.item_type, status, self._members, self.text_name, text)


class CustomCallBlock(CallBlock):
    """A call of a tool whose input is plain text."""

    __slots__ = ()

    delta_type = b"response.custom_tool_call_input.delta"
    done_type = b"response.custom_tool_call_input.done"
    item_type = b"custom_tool_call"
    text_name = b"input"


class FixedCallBlock(CallBlock):
    """A call of a tool with a fixed name: its item comes when its arguments are complete."""

    __slots__ = ("_call_id", "_texts", "_type")

    def __init__(self, writer: EventWriter, index: int, item_id: str, call_id: str, known_as: KnownAs) -> None:
        super().__init__(writer, index, item_id, call_id, known_as)
        self._call_id = call_id
        self._type = known_as.type
        self._texts: list[str] = []

    def open(self) -> bytes:
        return b""

    def add(self, text: str) -> bytes:
        self._texts.append(text)
        return b""

    def close(self, status: Status) -> bytes:
        item = self.item(status)
        added = self._item_event(b"response.output_item.added", item)
        return added + self._item_event(b"response.output_item.done", item)

    def item(self, status: Status) -> bytes:
        fixed, arguments = FIXED_TOOLS[self._type], "".join(self._texts)
        member = member_of_call(fixed, arguments)
        if member is None:
            # The client answers a call that it cannot read with an error, which the model can correct.
            return self._item(status.encode(), msgspec.json.encode(arguments))
        item = b'{"id":"%b","type":"%b","status":"%b","call_id":%b,"%b":%b%b}'
        execution = b',"execution":"client"' if self._type == "tool_search" else b""
        call_id = msgspec.json.encode(self._call_id)
        names = fixed.call.encode(), status.encode(), call_id, fixed.member.encode()
        return item % (self._item_id, *names, one_line(member), execution)
