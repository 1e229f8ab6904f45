"""One chat request, in no dialect: what all of them can say.

Raw JSON stays raw: the arguments of a tool call and the schemas of tools keep their bytes and the order of their keys,
as prefix caches and signatures depend on them.
"""

from collections.abc import Mapping
from typing import Literal

import msgspec


class Text(msgspec.Struct, frozen=True, tag=True):
    text: str


class Image(msgspec.Struct, frozen=True, tag=True):
    """Exactly one of ``data`` and ``url`` is not empty."""

    data: str = ""
    """In base64."""
    media_type: str = ""
    """Such as ``image/png``; empty: not known."""
    url: str = ""
    """Not a ``data:`` URL: that is ``data``."""


class File(msgspec.Struct, frozen=True, tag=True):
    """A document such as a PDF; exactly one of ``data``, ``url`` and ``text`` is not empty."""

    data: str = ""
    """In base64."""
    media_type: str = ""
    url: str = ""
    text: str = ""
    """The content of a plain text document."""
    name: str = ""


class Thinking(msgspec.Struct, frozen=True, tag=True):
    """What the model thought in an earlier turn."""

    text: str = ""
    signature: str = ""
    """Made by the provider; only for the provider that made it. Empty: none."""
    redacted: str = ""
    """Encrypted thoughts, of which there is no text."""


class ToolCall(msgspec.Struct, frozen=True, tag=True):
    """A call that the model made in an earlier turn."""

    id: str
    """Empty in dialects without ids."""
    name: str
    arguments: str
    """The JSON text of an object; ``{}`` if there are none. The plain input of a tool whose kind is ``custom``."""
    kind: Literal["function", "custom"] = "function"
    """The kind of the tool."""


class ToolResult(msgspec.Struct, frozen=True, tag=True):
    """The answer to a call."""

    call_id: str
    """Empty in dialects without ids."""
    parts: tuple[Text | Image | File, ...]
    name: str = ""
    """The name of the tool, if the dialect gives it."""
    is_error: bool = False


Part = Text | Image | File | Thinking | ToolCall | ToolResult
Role = Literal["system", "user", "assistant"]


class Message(msgspec.Struct, frozen=True):
    """One turn, its parts in their order. A tool's result is a part of a user's message, in every dialect."""

    role: Role
    parts: tuple[Part, ...]


class KnownAs(msgspec.Struct, frozen=True):
    """How the client knows a tool, and is told of its calls, where that is more than a name."""

    name: str
    namespace: str = ""
    """The group of tools that has this name; empty: none."""
    type: str = ""
    """A type of tools with a fixed name and schema, such as ``local_shell``; empty: none."""


class Tool(msgspec.Struct, frozen=True):
    """A tool that the client runs."""

    name: str
    """Unique in the request."""
    description: str = ""
    schema: msgspec.Raw | None = None
    """The JSON schema of the arguments, byte for byte; None: it takes none."""
    is_strict: bool | None = None
    kind: Literal["function", "custom"] = "function"
    """``custom``: its input is plain text, not JSON."""
    grammar: msgspec.Raw | None = None
    """The format that the input of a ``custom`` tool has, byte for byte."""
    known_as: KnownAs | None = None
    """None: by its name."""


class OneTool(msgspec.Struct, frozen=True):
    """The model must call this tool."""

    name: str


ToolChoice = Literal["auto", "none", "required"] | OneTool


class JsonFormat(msgspec.Struct, frozen=True):
    """The answer must be JSON."""

    schema: msgspec.Raw | None = None
    """None: any object."""
    name: str = ""
    is_strict: bool | None = None


class Reasoning(msgspec.Struct, frozen=True):
    """How much the model may think; all None: as its server does by default."""

    is_on: bool | None = None
    effort: str | None = None
    """``minimal``, ``low``, ``medium``, ``high``, ``xhigh`` or ``max``."""
    budget_tokens: int | None = None


class ChatRequest(msgspec.Struct, frozen=True, kw_only=True):
    """None, and an empty collection, mean that the client did not say."""

    model: str
    messages: tuple[Message, ...]
    """System messages stand where the client put them."""
    is_stream: bool = False
    wants_usage: bool = False
    """Whether the stream must report usage in an event of its own, where a dialect leaves that to the client."""
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice | None = None
    parallel_tools: bool | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    stop: tuple[str, ...] = ()
    format: JsonFormat | None = None
    verbosity: str | None = None
    """``low``, ``medium`` or ``high``: how long answers should be."""
    reasoning: Reasoning = Reasoning()
    user: str | None = None
    cache_key: str | None = None
    keep_alive: msgspec.Raw | None = None
    """For how long the server keeps the model in memory after the answer, as Ollama reads it."""
    echo: Mapping[str, msgspec.Raw] = {}
    """Members of the client's request that answers in its dialect repeat or depend on, by name, byte for byte."""
    lost: tuple[str, ...] = ()
    """Fields of the client's request that this has no place for, by their names there, sorted, each once."""
