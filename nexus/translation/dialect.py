"""The interface of a dialect: one decoder and one encoder each for requests, whole answers and streams.

Dialects do not know each other. Any two are combined by :mod:`nexus.translation.translator`, through
:class:`~nexus.translation.chat.ChatRequest` and :mod:`~nexus.translation.events`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

import msgspec

from nexus.translation.chat import ChatRequest
from nexus.translation.events import AnswerEvent, Failure
from nexus.translation.quirks import Quirks
from nexus.wire.streams.event import Event


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """The backend that an encoded request goes to."""

    model: str
    """The backend's name of the model."""
    room_tokens: int | None = None
    """What the model's context has left for the answer, by a careful estimate; None: its length is not known."""
    max_tokens: int | None = None
    """The longest answer that the model can give, where a dialect requires a number; None: not known."""
    thinks: bool | None = None
    """Whether the model can think, where a dialect refuses a request to do so otherwise; None: not known."""
    quirks: Quirks = Quirks()


class EncodedRequest(msgspec.Struct, frozen=True):
    """A body, and what has no place in it."""

    body: bytes
    lost: tuple[str, ...] = ()
    """Fields of :class:`~nexus.translation.chat.ChatRequest` with no place in this dialect, by the names that OpenAI's
    chat gives them, such as ``seed``; without :attr:`ChatRequest.lost`."""


class AnswerContext(msgspec.Struct, frozen=True, kw_only=True):
    """What an encoder of answers knows of the request."""

    model: str
    """The name that the client used."""
    id: str
    """A token of letters and digits that is unique to the request, for ids that the backend did not give."""
    created: int
    """Unix seconds."""
    wants_usage: bool = True
    custom_tools: frozenset[str] = frozenset()
    """The names of tools whose input is plain text."""
    prompt_tokens: int = 0
    """Estimated, for dialects that report it before it is known."""
    request: ChatRequest | None = None
    """For dialects whose answers repeat parts of the request."""


class StreamDecoder(Protocol):
    """Reads one stream. Never raises: what it cannot read is skipped."""

    def decode(self, event: Event) -> Iterable[AnswerEvent]:
        """Return what the next event of the stream says."""


class StreamEncoder(Protocol):
    """Writes one stream, from events in the order of :class:`~nexus.translation.ordering.Ordering`."""

    def encode(self, events: Iterable[AnswerEvent]) -> bytes:
        """Return what is sent for *events*; it may be empty."""

    def ping(self) -> bytes:
        """Return an event that keeps a silent stream open; empty where the dialect has none."""


class Dialect(msgspec.Struct, frozen=True, kw_only=True):
    """One way of asking for a chat, as a set of functions."""

    name: str
    """As shown to people: ``openai``, ``responses``, ``anthropic``, ``ollama``, ``generate``."""
    endpoint: str
    """The name of the endpoint that takes its requests, such as ``openai.chat``."""
    decode_request: Callable[[bytes], ChatRequest]
    """:raises RequestError: the body is invalid, or asks for what only its own backends can do (``not_translatable``,
    with ``param`` and what to do)."""
    encode_request: Callable[[ChatRequest, Target], EncodedRequest] | None
    """None: backends with this endpoint are asked at another one. :raises RequestError: ``not_translatable``: leaving
    a field out would change the meaning of the request, and this dialect has no place for it."""
    decode_answer: Callable[[bytes], Sequence[AnswerEvent]] | None
    """Reads a whole answer, from ``Start`` to ``End``. :raises ValueError: it is none."""
    encode_answer: Callable[[Sequence[AnswerEvent], AnswerContext], bytes]
    """Writes a whole answer, from events in order."""
    open_decoder: Callable[[], StreamDecoder] | None
    open_encoder: Callable[[AnswerContext], StreamEncoder]
    decode_error: Callable[[int, bytes], Failure]
    """Reads the body of an error with this status, whatever it is; never raises."""
    encode_error: Callable[[Failure, str], bytes]
    """Writes the body of an error; the second argument is the request id."""
    has_custom_tools: bool = False
    """Whether its requests can have tools whose input is plain text; elsewhere they become functions."""
    field_names: Mapping[str, str] = {}
    """Its own names of the fields in :attr:`EncodedRequest.lost`, where they differ. ``reasoning_effort`` is an effort
    that the client named, ``budget_tokens`` a number of tokens, ``thinking`` that the model thinks at all."""
    headers: Mapping[bytes, bytes] = {}
    """Headers that its backends require, by lower-case name, such as ``anthropic-version``."""
