"""Reads whole answers of OpenAI's chat dialect."""

from collections.abc import Sequence

from nexus.translation.events import AnswerEvent, End, Failure, Start, ToolArguments, ToolBegin, ToolEnd
from nexus.translation.openai.documents import document_in
from nexus.translation.openai.errors import failure_in
from nexus.translation.openai.message import Said, add_text, finish_of
from nexus.translation.openai.usage import usage_in
from nexus.translation.signed_ids import signed


def decode_answer(body: bytes) -> Sequence[AnswerEvent]:
    document = document_in(body)
    if document is None:
        raise ValueError("no JSON object")
    if document.is_error():
        raise ValueError(failure_in(body).message)
    if not document.choices:
        raise ValueError("no choices")
    choice = document.choices[0]
    said = choice.message or choice.delta or Said()
    events: list[AnswerEvent] = [Start(document.id or "", document.model or "")]
    add_text(said, events)
    for index, call in enumerate(said.tool_calls or ()):
        name, arguments = (call.function.name, call.function.arguments) if call.function else ("", "")
        signature = call.signature
        id_ = signed(call.id or f"call{index}", signature) if signature else call.id or ""
        events += ToolBegin(index, id_, name or ""), ToolArguments(index, arguments or ""), ToolEnd(index)
    if choice.finish_reason:
        finish = finish_of(choice, has_refused=bool(said.refusal))
        if isinstance(finish, Failure):
            raise ValueError(finish.message)
        events.append(finish)
    if document.usage is not None:
        events.append(usage_in(document.usage))
    return (*events, End())
