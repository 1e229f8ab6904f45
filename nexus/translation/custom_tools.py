"""Turns tools whose input is plain text into functions with one argument, for dialects without such tools, and back."""

import re
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec
from msgspec.structs import replace

from nexus.translation.chat import ChatRequest, Message, Part, Tool, ToolCall
from nexus.translation.dialect import AnswerContext
from nexus.translation.events import AnswerEvent, ToolArguments, ToolBegin, ToolEnd
from nexus.translation.tool_arguments import INPUT, INPUT_SCHEMA, input_arguments
from nexus.wire.documents import read


def as_functions(chat: ChatRequest) -> ChatRequest:
    """Return *chat* with a function in place of each custom tool, and of each call of one."""
    if any(tool.kind == "custom" for tool in chat.tools):
        chat = replace(chat, tools=tuple(map(_function, chat.tools)))
    if any(map(_has_custom_call, chat.messages)):
        chat = replace(chat, messages=tuple(map(_with_functions, chat.messages)))
    return chat


def names_of(context: AnswerContext) -> frozenset[str]:
    """Return the names of the request's custom tools."""
    if context.request is None:
        return context.custom_tools
    return context.custom_tools | {tool.name for tool in context.request.tools if tool.kind == "custom"}


class _Format(msgspec.Struct):
    """A grammar as the Responses API has it, or as the chat API does: in an object of its own."""

    syntax: str = ""
    definition: str = ""
    grammar: "_Format | None" = None


_FORMAT: Final = msgspec.json.Decoder(_Format)


def _function(tool: Tool) -> Tool:
    if tool.kind != "custom":
        return tool
    format_ = read(_FORMAT, bytes(tool.grammar)) if tool.grammar is not None else None
    if format_ is not None and format_.grammar is not None:
        format_ = format_.grammar
    rule = f"`{INPUT}` is plain text, not JSON."
    if format_ is not None and format_.definition:
        rule = f"`{INPUT}` is plain text that matches this {format_.syntax} grammar:\n{format_.definition}"
    description = f"{tool.description}\n\n{rule}" if tool.description else rule
    return replace(tool, kind="function", description=description, schema=INPUT_SCHEMA, grammar=None)


def _has_custom_call(message: Message) -> bool:
    return any(type(part) is ToolCall and part.kind == "custom" for part in message.parts)


def _with_functions(message: Message) -> Message:
    return replace(message, parts=tuple(map(_function_call, message.parts))) if _has_custom_call(message) else message


def _function_call(part: Part) -> Part:
    if type(part) is not ToolCall or part.kind != "custom":
        return part
    return replace(part, kind="function", arguments=input_arguments(part.arguments))


class Unwrapping:
    """Returns the events of one answer with the plain input of custom tools in place of a function's argument.

    The argument's text is passed on as it comes. A model may not follow the schema: other text than one string in an
    object is passed on as it is, at the end of the call.
    """

    __slots__ = ("_inputs", "_names")

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names
        self._inputs: dict[int, _Input] = {}
        """The open calls of custom tools."""

    def add(self, events: Iterable[AnswerEvent]) -> list[AnswerEvent]:
        """Return *events*, which are in order, with plain input."""
        return [passed for event in events for passed in self._add(event)]

    def _add(self, event: AnswerEvent) -> Iterator[AnswerEvent]:
        if type(event) is ToolArguments and (open_input := self._inputs.get(event.index)) is not None:
            if text := open_input.feed(event.text):
                yield ToolArguments(event.index, text)
            return
        if type(event) is ToolBegin and event.name in self._names:
            self._inputs[event.index] = _Input()
        elif type(event) is ToolEnd and event.index in self._inputs and (text := self._inputs.pop(event.index).rest()):
            yield ToolArguments(event.index, text)
        yield event


_STRING: Final = msgspec.json.Decoder(str)
_OBJECT: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_BEGIN: Final = re.compile(rf'\s*\{{\s*"{INPUT}"\s*:\s*"')
_MAX_BEGIN_CHARACTERS: Final = 256
"""Arguments whose string has not begun here are passed on at the end."""
_WHOLE: Final = re.compile(
    r"""(?:[^"\\]|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[0-9a-fA-F]{4}|\\(?!u[dD][89abAB])(?:[^u]|u[0-9a-fA-F]{4}))*+"""
)
"""Characters and whole escapes; a pair of surrogates is one escape, and half of one is none."""
_MAX_ESCAPE_CHARACTERS: Final = len("\\ud83d\\ude00")


class _Input:
    """The arguments of one call, of which the one string is decoded as it comes."""

    __slots__ = ("_has_begun", "_has_ended", "_pending")

    def __init__(self) -> None:
        self._pending: list[str] = []
        """What was not passed on."""
        self._has_begun = self._has_ended = False

    def feed(self, text: str) -> str:
        """Return what of the string *text* completes."""
        self._pending.append(text)
        if self._has_ended or not (self._has_begun or self._begin()):
            return ""
        text = "".join(self._pending)
        end = match.end() if (match := _WHOLE.match(text)) else 0
        self._pending = [text[end:]]
        if text.startswith('"', end):
            self._has_ended = True
        elif len(text) - end >= _MAX_ESCAPE_CHARACTERS:
            # No JSON: what follows cannot be read either.
            self._pending, end = [], len(text)
        return _unescaped(text[:end])

    def rest(self) -> str:
        """Return what was not passed on, once the arguments are complete."""
        if self._has_begun:
            return ""
        arguments = "".join(self._pending)
        given = read(_OBJECT, arguments.encode())
        if given is None:
            return arguments
        if not given:
            return ""
        # An argument of another name or type than the schema has.
        text = read(_STRING, bytes(next(iter(given.values())))) if len(given) == 1 else None
        return arguments if text is None else text

    def _begin(self) -> bool:
        """Drop what is before the string, if it has begun."""
        if len(self._pending) > _MAX_BEGIN_CHARACTERS:
            return False
        text = "".join(self._pending)
        if (begin := _BEGIN.match(text)) is None:
            return False
        self._has_begun, self._pending = True, [text[begin.end() :]]
        return True


def _unescaped(text: str) -> str:
    if "\\" not in text:
        return text
    decoded = read(_STRING, f'"{text}"'.encode())
    return text if decoded is None else decoded
