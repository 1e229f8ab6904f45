"""The events that an answer consists of, in no dialect.

A decoder of a dialect yields them as they come. Passed through :class:`~nexus.translation.ordering.Ordering`, they have
the order that every encoder relies on: ``Start``, then blocks one after the other (thinking, text, or one tool call
from its ``ToolBegin`` to its ``ToolEnd``), ``Usage`` anywhere after ``Start``, ``Finish`` once, a last ``Usage`` with
all that is known, ``End``, and nothing after that. A ``Failure`` may come anywhere, and is the last.
"""

from typing import Literal

import msgspec


class Start(msgspec.Struct, frozen=True, gc=False, tag=True):
    """The answer has begun."""

    id: str = ""
    model: str = ""


class ThinkingPart(msgspec.Struct, frozen=True, gc=False, tag=True):
    """More of the thoughts."""

    text: str


class Signature(msgspec.Struct, frozen=True, gc=False, tag=True):
    """Ends thoughts that their provider has signed."""

    signature: str


class RedactedThinking(msgspec.Struct, frozen=True, gc=False, tag=True):
    """Encrypted thoughts, whole."""

    data: str


class TextPart(msgspec.Struct, frozen=True, gc=False, tag=True):
    """More of the text."""

    text: str


class ToolBegin(msgspec.Struct, frozen=True, gc=False, tag=True):
    """A call of a tool has begun; a decoder may yield it again with what was missing."""

    index: int
    """Which call of the answer, by any number that the dialect uses."""
    id: str = ""
    """Empty: not given, or not yet."""
    name: str = ""
    """Empty: not given yet."""


class ToolArguments(msgspec.Struct, frozen=True, gc=False, tag=True):
    """More of the JSON text of the arguments; of the plain input, if the kind of the tool is ``custom``."""

    index: int
    text: str


class ToolEnd(msgspec.Struct, frozen=True, gc=False, tag=True):
    """The call is complete; a decoder of a dialect that does not say so yields none."""

    index: int


Reason = Literal["stop", "length", "tool_calls", "content_filter"]


class Finish(msgspec.Struct, frozen=True, gc=False, tag=True):
    """Why the model stopped. Of several, the last counts."""

    reason: Reason
    stop_sequence: str = ""
    """The stop string that was found, if the dialect says which."""


class Usage(msgspec.Struct, frozen=True, gc=False, tag=True):
    """The tokens so far; None: not reported. Of several, the last number that is not None counts."""

    input_tokens: int | None = None
    """All of the prompt, those from and to a cache included."""
    output_tokens: int | None = None
    """All that the model wrote, its thoughts included."""
    cached_tokens: int | None = None
    """The part of ``input_tokens`` that was read from a cache."""
    cache_write_tokens: int | None = None
    """The part of ``input_tokens`` that was written to a cache at an extra price."""
    reasoning_tokens: int | None = None
    """The part of ``output_tokens`` that is thoughts."""


class Failure(msgspec.Struct, frozen=True, gc=False, tag=True):
    """The backend reports an error; nothing follows."""

    status: int
    """The HTTP status that says the same."""
    message: str
    code: str = ""
    """The backend's own code, if it has one."""


class End(msgspec.Struct, frozen=True, gc=False, tag=True):
    """The end mark has come: the answer is complete."""


AnswerEvent = (
    Start
    | ThinkingPart
    | Signature
    | RedactedThinking
    | TextPart
    | ToolBegin
    | ToolArguments
    | ToolEnd
    | Finish
    | Usage
    | Failure
    | End
)
