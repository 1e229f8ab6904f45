"""Writes answers of the Responses API."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import ClassVar, Final

import msgspec

from nexus.translation.chat import KnownAs
from nexus.translation.custom_tools import names_of
from nexus.translation.dialect import AnswerContext
from nexus.translation.events import (
    AnswerEvent,
    End,
    Failure,
    Finish,
    Reason,
    RedactedThinking,
    Signature,
    Start,
    TextPart,
    ThinkingPart,
    ToolArguments,
    ToolBegin,
    ToolEnd,
    Usage,
)
from nexus.translation.responses.blocks_out import (
    Block,
    CallBlock,
    CustomCallBlock,
    EventWriter,
    FixedCallBlock,
    MessageBlock,
    RawReasoningBlock,
    ReasoningBlock,
    Status,
)
from nexus.translation.responses.document import NULL, ResponseDocument, usage_json
from nexus.translation.responses.errors import error_json
from nexus.translation.responses.item_ids import prefixed
from nexus.wire.documents import read


def encode_answer(events: Sequence[AnswerEvent], context: AnswerContext) -> bytes:
    """Return the response object that *events* make."""
    encoder = ResponsesEncoder(context)
    encoder.encode(events)
    return encoder.response


class ResponsesEncoder:
    """Writes one stream.

    An item ends with the event after it: only then it is known whether the model was cut short in it.
    """

    __slots__ = (
        "_block",
        "_context",
        "_custom",
        "_document",
        "_keeps_thoughts",
        "_known_as",
        "_output",
        "_reason",
        "_usage",
        "_wants_summary",
        "_writer",
        "response",
    )

    def __init__(self, context: AnswerContext) -> None:
        tools = () if context.request is None else context.request.tools
        self._block: Block | None = None
        self._context = context
        self._custom = names_of(context)
        self._document: ResponseDocument | None = None
        self._known_as = {tool.name: tool.known_as for tool in tools if tool.known_as is not None}
        self._output: list[bytes] = []
        """The items that are complete."""
        self._reason: Reason = "stop"
        self._wants_summary = _wants_summary(context)
        self._keeps_thoughts = _ENCRYPTED in _asked(context, "include")
        self._usage = Usage()
        self._writer = EventWriter()
        self.response = b""
        """The response object, once the answer has ended."""

    def encode(self, events: Iterable[AnswerEvent]) -> bytes:
        methods = self._METHODS
        return b"".join([methods[type(event)](self, event) for event in events])

    def ping(self) -> bytes:
        """Repeat that the response is in progress: clients restart their timers with it, and do nothing else."""
        if self._document is None or self.response:
            return b""
        return self._lifecycle(b"response.in_progress", self._document.write("in_progress", b""))

    def _start(self, event: Start) -> bytes:
        self._document = document = ResponseDocument(event.id, self._context)
        begun = document.write("in_progress", b"")
        return self._lifecycle(b"response.created", begun) + self._lifecycle(b"response.in_progress", begun)

    def _text(self, event: TextPart) -> bytes:
        block = self._block
        if type(block) is MessageBlock:
            return block.add(event.text)
        return self._next(MessageBlock(self._writer, *self._place("msg"))) + self._added(event.text)

    def _thinking(self, event: ThinkingPart) -> bytes:
        block = self._block
        if isinstance(block, ReasoningBlock) and not block.is_signed:
            return block.add(event.text)
        return self._next(self._thoughts()) + self._added(event.text)

    def _sign(self, event: Signature) -> bytes:
        block, sent = self._block, b""
        if not isinstance(block, ReasoningBlock) or block.is_signed:
            block = self._thoughts()
            sent = self._next(block)
        block.sign(event.signature)
        return sent

    def _redacted(self, event: RedactedThinking) -> bytes:
        block = self._thoughts()
        sent = self._next(block)
        block.redact(event.data)
        return sent

    def _begin_call(self, event: ToolBegin) -> bytes:
        known_as = self._known_as.get(event.name)
        is_custom = event.name in self._custom
        kind = CustomCallBlock if is_custom else FixedCallBlock if known_as and known_as.type else CallBlock
        index, _ = self._place("")
        item_id = prefixed("ctc" if is_custom else "fc", event.id)
        return self._next(kind(self._writer, index, item_id, event.id, known_as or KnownAs(event.name)))

    def _arguments(self, event: ToolArguments) -> bytes:
        return self._added(event.text)

    def _end_call(self, _event: ToolEnd) -> bytes:
        return b""

    def _count(self, event: Usage) -> bytes:
        self._usage = event
        return b""

    def _finish(self, event: Finish) -> bytes:
        self._reason = event.reason
        return self._close("incomplete" if event.reason in _INCOMPLETE else "completed")

    def _end(self, _event: End) -> bytes:
        status = "incomplete" if self._reason in _INCOMPLETE else "completed"
        return self._last(status, incomplete=_INCOMPLETE.get(self._reason, NULL))

    def _fail(self, event: Failure) -> bytes:
        begun = self._start(Start()) if self._document is None else b""
        if self._block is not None:
            self._output.append(self._block.item("incomplete"))
        return begun + self._last("failed", error=error_json(event))

    def _last(self, status: str, *, error: bytes = NULL, incomplete: bytes = NULL) -> bytes:
        document = self._document or ResponseDocument("", self._context)
        output, usage = b",".join(self._output), usage_json(self._usage)
        self.response = document.write(status, output, usage, error=error, incomplete=incomplete)
        return self._lifecycle(b"response." + status.encode(), self.response)

    def _thoughts(self) -> ReasoningBlock:
        kind = ReasoningBlock if self._wants_summary else RawReasoningBlock
        return kind(self._writer, *self._place("rs"), is_kept=self._keeps_thoughts)

    def _place(self, prefix: str) -> tuple[int, str]:
        """Return the index and the id of the next item."""
        index = len(self._output) + (self._block is not None)
        return index, f"{prefixed(prefix, self._context.id)}_{index}"

    def _next(self, block: Block) -> bytes:
        """Return the events that end the open item and begin that of *block*."""
        closed, self._block = self._close("completed"), block
        return closed + block.open()

    def _added(self, text: str) -> bytes:
        return b"" if self._block is None else self._block.add(text)

    def _close(self, status: Status) -> bytes:
        block, self._block = self._block, None
        if block is None:
            return b""
        closed = block.close(status)
        self._output.append(block.item(status))
        return closed

    def _lifecycle(self, type_: bytes, response: bytes) -> bytes:
        return self._writer.event(type_, b'"response":' + response)

    _METHODS: ClassVar[Mapping[type[AnswerEvent], Callable[..., bytes]]] = {
        Start: _start,
        ThinkingPart: _thinking,
        Signature: _sign,
        RedactedThinking: _redacted,
        TextPart: _text,
        ToolBegin: _begin_call,
        ToolArguments: _arguments,
        ToolEnd: _end_call,
        Usage: _count,
        Finish: _finish,
        Failure: _fail,
        End: _end,
    }
    """What is written for each event."""


_INCOMPLETE: Final[Mapping[str, bytes]] = {
    "length": b'{"reason":"max_output_tokens"}',
    "content_filter": b'{"reason":"content_filter"}',
}


class _Reasoning(msgspec.Struct):
    summary: str | None = None
    generate_summary: str | None = None


_REASONING: Final = msgspec.json.Decoder(_Reasoning)


_ENCRYPTED: Final = b"reasoning.encrypted_content"


def _asked(context: AnswerContext, name: str) -> bytes:
    """Return the JSON of a member of the request; empty if it has none."""
    return b"" if context.request is None else bytes(context.request.echo.get(name, b""))


def _wants_summary(context: AnswerContext) -> bool:
    reasoning = read(_REASONING, _asked(context, "reasoning"))
    return reasoning is not None and bool(reasoning.summary or reasoning.generate_summary)
