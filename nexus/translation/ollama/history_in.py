"""Reads the messages of Ollama's requests, and gives their tool calls ids that stay the same over all turns."""

from collections.abc import Iterable
from typing import Final

import msgspec

from nexus.errors import RequestError
from nexus.translation.chat import Image, Message, Part, Text, Thinking, ToolCall, ToolResult
from nexus.translation.media_types import media_type_of
from nexus.translation.tool_arguments import as_object
from nexus.wire.documents import is_given, read

_STRING: Final = msgspec.json.Decoder(str)


class OllamaFunction(msgspec.Struct):
    name: str = ""
    arguments: msgspec.Raw = msgspec.Raw()


class OllamaCall(msgspec.Struct):
    function: OllamaFunction
    id: str | None = None


class OllamaMessage(msgspec.Struct):
    role: str = ""
    content: str | None = None
    thinking: str | None = None
    images: list[str] | None = None
    tool_calls: list[OllamaCall] | None = None
    tool_name: str | None = None
    tool_call_id: str | None = None


def history(messages: Iterable[OllamaMessage], lost: set[str]) -> tuple[Message, ...]:
    """Return *messages* in no dialect, and add what is left out to *lost*.

    :raises RequestError: a role is known to no other dialect.
    """
    reader = _Reader(lost)
    for position, message in enumerate(messages):
        reader.read(position, message)
    return tuple(reader.read_messages)


def images_and_text(images: Iterable[str], text: str) -> tuple[Image | Text, ...]:
    """Return the parts of a message; Ollama shows the model its images first."""
    shown = tuple(Image(data=image, media_type=media_type_of(image)) for image in images)
    return (*shown, Text(text)) if text or not shown else shown


class _Reader:
    """Links the results of tools with their calls.

    Most clients of Ollama know no ids: a call then gets one by its place in the history, and a result is that of the
    first call of the same tool that has none, else of the first call that has none.
    """

    def __init__(self, lost: set[str]) -> None:
        self._lost = lost
        self.read_messages: list[Message] = []
        self._waiting: list[ToolCall] = []
        """Calls without a result."""
        self._made_ids: set[str] = set()
        self._has_results = False
        """Whether the last message has the results of tools."""

    def read(self, position: int, message: OllamaMessage) -> None:
        role = message.role.lower()
        if role == "tool":
            self._tool(message)
            return
        self._has_results = False
        if message.images and role != "user":
            # Other dialects have images of users and of tools only.
            self._lost.add("messages.images")
        if role == "assistant":
            self._assistant(position, message)
        elif role == "user":
            self.read_messages.append(Message("user", images_and_text(message.images or (), message.content or "")))
        elif role == "system":
            self.read_messages.append(Message("system", (Text(message.content or ""),)))
        else:
            param = f"messages[{position}].role"
            text = f"'{param}' is no role that other servers know; use system, user, assistant or tool"
            raise RequestError("not_translatable", text, param=param)

    def _assistant(self, position: int, message: OllamaMessage) -> None:
        calls = tuple(
            self._call(f"call_{position}_{number}", call) for number, call in enumerate(message.tool_calls or ())
        )
        self._waiting = list(calls)
        parts: list[Part] = []
        if message.thinking:
            parts.append(Thinking(message.thinking))
        if message.content or not (parts or calls):
            parts.append(Text(message.content or ""))
        self.read_messages.append(Message("assistant", (*parts, *calls)))

    def _call(self, made_id: str, call: OllamaCall) -> ToolCall:
        if not call.id:
            self._made_ids.add(made_id)
        raw = call.function.arguments
        # As OpenAI's clients have them: a string.
        text = read(_STRING, bytes(raw)) if is_given(raw) else ""
        arguments = as_object(bytes(raw).decode(errors="replace") if text is None else text)
        return ToolCall(call.id or made_id, call.function.name, arguments)

    def _tool(self, message: OllamaMessage) -> None:
        parts = images_and_text(message.images or (), message.content or "")
        call = self._call_of(message)
        result: Part
        if call is not None:
            self._waiting.remove(call)
            result = ToolResult(call.id, parts, name=call.name)
        elif message.tool_call_id:
            result = ToolResult(message.tool_call_id, parts, name=message.tool_name or "")
        else:
            # Other servers refuse the result of a call that they cannot find.
            self._has_results = False
            self.read_messages.append(Message("user", parts))
            return
        if self._has_results:
            last = self.read_messages.pop()
            self.read_messages.append(Message("user", (*last.parts, result)))
        else:
            self.read_messages.append(Message("user", (result,)))
        self._has_results = True

    def _call_of(self, message: OllamaMessage) -> ToolCall | None:
        waiting = self._waiting
        if message.tool_call_id:
            found = next((call for call in waiting if call.id == message.tool_call_id), None)
            if found is not None:
                return found
            # The client had the ids of the answer, and has dropped them in the history.
            waiting = [call for call in waiting if call.id in self._made_ids]
        named = next((call for call in waiting if call.name == message.tool_name), None)
        return named or next(iter(waiting), None)
