"""Translates between any two dialects of a chat."""

from collections.abc import Callable, Iterable, Iterator
from typing import Final, Protocol

from nexus.translation.chat import ChatRequest, Reasoning
from nexus.translation.conversion import About, StreamConversion
from nexus.translation.custom_tools import Unwrapping, as_functions, names_of
from nexus.translation.dialect import AnswerContext, Dialect, Target
from nexus.translation.events import AnswerEvent, End, Failure
from nexus.translation.ordering import Ordering
from nexus.translation.tool_names import Renaming
from nexus.wire.streams.scan import Framing

CALL: Final = "call_"
"""Begins the ids of calls that the backend has given none; every dialect accepts it."""


class Step(Protocol):
    """Restores in an answer what was changed in the request."""

    def add(self, events: Iterable[AnswerEvent], /) -> list[AnswerEvent]:
        """Return *events*, which are in order, as the client expects them."""


class ChatConversion:
    """One request in the dialect of a backend, and its answer in that of the client."""

    __slots__ = ("_backend", "_client", "_context", "_renaming", "body", "lost")

    def __init__(self, body: bytes, client: Dialect, backend: Dialect, target: Target, about: About) -> None:
        """:raises RequestError: *body* is invalid, or the backend's dialect cannot say it: ``not_translatable``."""
        if backend.encode_request is None:
            raise LookupError(f"no request is translated to {backend.name}")
        chat = client.decode_request(body)
        asked = chat if backend.has_custom_tools else as_functions(chat)
        longest = target.quirks.max_tool_name_characters
        self._renaming = None if longest is None else Renaming(chat, longest)
        encoded = backend.encode_request(self._renaming.renamed(asked) if self._renaming else asked, target)
        self.body = encoded.body
        self.lost = tuple(sorted({*chat.lost, *_as_named_by(client, chat, encoded.lost)}))
        self._client = client
        self._backend = backend
        self._context = _context(chat, about)

    def answer(self, body: bytes) -> bytes:
        """Return a whole answer in the dialect of the client. :raises ValueError: *body* is none of the backend's."""
        return self._client.encode_answer(self._events_of(body), self._context)

    def answer_as_stream(self, body: bytes) -> bytes:
        """Return a whole answer as a stream. :raises ValueError: *body* is none of the backend's."""
        return self._client.open_encoder(self._context).encode(self._events_of(body))

    def error(self, status: int, body: bytes, request_id: str) -> bytes:
        """Return the body of an error in the dialect of the client."""
        return self._client.encode_error(self._backend.decode_error(status, body), request_id)

    def stream(self, framing: Framing) -> StreamConversion:
        return StreamTranslation(self._backend, self._client, self._context, framing, self._steps())

    def _steps(self) -> tuple[Step, ...]:
        """Return the steps that an answer goes through, in order."""
        names = frozenset[str]() if self._backend.has_custom_tools else names_of(self._context)
        return (*((self._renaming,) if self._renaming else ()), *((Unwrapping(names),) if names else ()))

    def _events_of(self, body: bytes) -> list[AnswerEvent]:
        decode: Callable[[bytes], Iterable[AnswerEvent]] | None = self._backend.decode_answer
        if decode is None:
            raise LookupError(f"no answer is translated from {self._backend.name}")
        events = Ordering(f"{CALL}{self._context.id}").add(decode(body))
        for step in self._steps():
            events = step.add(events)
        return events


class StreamTranslation:
    """One stream: whole events of the backend in, events of the client out."""

    __slots__ = ("_decoder", "_encoder", "_framing", "_ordering", "_steps", "has_failed")

    def __init__(
        self, backend: Dialect, client: Dialect, context: AnswerContext, framing: Framing, steps: tuple[Step, ...] = ()
    ) -> None:
        if backend.open_decoder is None:
            raise LookupError(f"no stream is translated from {backend.name}")
        self._decoder = backend.open_decoder()
        self._encoder = client.open_encoder(context)
        self._framing = framing
        self._ordering = Ordering(f"{CALL}{context.id}")
        self._steps = steps
        self.has_failed = False

    def feed(self, block: bytes) -> bytes:
        decode = self._decoder.decode
        return self._encode([answer for event in self._framing.events(block) for answer in decode(event)])

    def ping(self) -> bytes:
        return self._encoder.ping()

    def end(self) -> bytes:
        return self._encode((End(),))

    def _encode(self, events: Iterable[AnswerEvent]) -> bytes:
        ordered = self._ordering.add(events)
        if ordered and type(ordered[-1]) is Failure:
            self.has_failed = True
        for step in self._steps:
            ordered = step.add(ordered)
        return self._encoder.encode(ordered)


def _as_named_by(client: Dialect, chat: ChatRequest, lost: Iterable[str]) -> Iterator[str]:
    """Yield the fields that the dialect of a backend has *lost*, by the names that the client knows."""
    for name in lost:
        asked = _asked_as(chat.reasoning) if name == "reasoning_effort" else name
        yield client.field_names.get(asked, asked)


def _asked_as(reasoning: Reasoning) -> str:
    """Return which field says how much the model may think; the dialects of backends make one effort of all."""
    if reasoning.effort is not None:
        return "reasoning_effort"
    return "thinking" if reasoning.budget_tokens is None else "budget_tokens"


def _context(chat: ChatRequest, about: About) -> AnswerContext:
    return AnswerContext(
        model=about.model,
        id=about.id,
        created=about.created,
        wants_usage=chat.wants_usage,
        custom_tools=frozenset(tool.name for tool in chat.tools if tool.kind == "custom"),
        prompt_tokens=about.prompt_tokens,
        request=chat,
    )
