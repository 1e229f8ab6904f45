"""Translates between any two dialects."""

from collections.abc import Iterable
from typing import Final

import msgspec

from nexus.translation.chat import ChatRequest
from nexus.translation.custom_tools import Unwrapping, as_functions, names_of
from nexus.translation.dialect import AnswerContext, Dialect, EncodedRequest, StreamDecoder, StreamEncoder, Target
from nexus.translation.events import AnswerEvent, Failure
from nexus.translation.ordering import Ordering
from nexus.wire.streams.scan import Framing

CALL: Final = "call_"
"""Begins the ids of calls that the backend has given none; every dialect accepts it."""


class TranslatedRequest(msgspec.Struct, frozen=True):
    """A request in the dialect of a backend."""

    body: bytes
    chat: ChatRequest
    lost: tuple[str, ...]
    """What could not be carried over, by the names that the client's dialect gives the fields, sorted, each once."""


def translate_request(body: bytes, client: Dialect, backend: Dialect, target: Target) -> TranslatedRequest:
    """Return *body* in the dialect of the backend.

    :raises RequestError: it is invalid, or cannot be said there without changing its meaning: ``not_translatable``.
    """
    chat = client.decode_request(body)
    encoded = encode_request(chat, backend, target)
    return TranslatedRequest(encoded.body, chat, tuple(sorted({*chat.lost, *encoded.lost})))


def encode_request(chat: ChatRequest, backend: Dialect, target: Target) -> EncodedRequest:
    """Return *chat* in the dialect of the backend. :raises RequestError: ``not_translatable``."""
    if backend.encode_request is None:
        raise LookupError(f"no request is translated to {backend.name}")
    return backend.encode_request(chat if backend.has_custom_tools else as_functions(chat), target)


def translate_answer(body: bytes, backend: Dialect, client: Dialect, context: AnswerContext) -> bytes:
    """Return a whole answer in the dialect of the client. :raises ValueError: *body* is none of the backend's."""
    if backend.decode_answer is None:
        raise LookupError(f"no answer is translated from {backend.name}")
    ordering = Ordering(f"{CALL}{context.id}")
    events = ordering.add(backend.decode_answer(body))
    if not backend.has_custom_tools and (names := names_of(context)):
        events = Unwrapping(names).add(events)
    return client.encode_answer(events, context)


def translate_error(status: int, body: bytes, backend: Dialect, client: Dialect, request_id: str) -> bytes:
    """Return the body of an error in the dialect of the client."""
    return client.encode_error(backend.decode_error(status, body), request_id)


class StreamTranslation:
    """One stream: whole events of the backend in, events of the client out."""

    __slots__ = ("_decoder", "_encoder", "_framing", "_ordering", "_unwrapping", "has_failed")

    def __init__(self, backend: Dialect, client: Dialect, context: AnswerContext, framing: Framing) -> None:
        if backend.open_decoder is None:
            raise LookupError(f"no stream is translated from {backend.name}")
        self._decoder: StreamDecoder = backend.open_decoder()
        self._encoder: StreamEncoder = client.open_encoder(context)
        self._framing = framing
        self._ordering = Ordering(f"{CALL}{context.id}")
        names = frozenset[str]() if backend.has_custom_tools else names_of(context)
        self._unwrapping = Unwrapping(names) if names else None
        self.has_failed = False
        """Whether an error was passed on: the stream of the client has ended."""

    def feed(self, block: bytes) -> bytes:
        """Return what the client is sent for *block*, which has whole events; it may be empty."""
        return self._encode(answer for event in self._framing.events(block) for answer in self._decoder.decode(event))

    def fail(self, failure: Failure) -> bytes:
        """Return what ends the client's stream with an error."""
        return self._encode((failure,))

    def ping(self) -> bytes:
        """Return an event that keeps the client's stream open; empty where its dialect has none."""
        return self._encoder.ping()

    def _encode(self, events: Iterable[AnswerEvent]) -> bytes:
        ordered = self._ordering.add(events)
        if ordered and type(ordered[-1]) is Failure:
            self.has_failed = True
        return self._encoder.encode(ordered if self._unwrapping is None else self._unwrapping.add(ordered))
