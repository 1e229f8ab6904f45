"""What becomes of one request that a backend gets in another dialect than the client's, and of its answer."""

from typing import Protocol

import msgspec

from nexus.wire.streams.scan import Framing


class About(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a request, besides its body."""

    model: str
    """The name that the client used."""
    id: str
    """A token of letters and digits that is unique to the request."""
    created: int
    """When it arrived, in Unix seconds."""
    prompt_tokens: int = 0
    """Estimated."""


class StreamConversion(Protocol):
    """One stream: whole events of the backend in, events of the client out."""

    has_failed: bool
    """Whether an error was passed on: the stream of the client has ended."""

    def feed(self, block: bytes) -> bytes:
        """Return what the client is sent for *block*, which has whole events; it may be empty."""

    def ping(self) -> bytes:
        """Return an event that keeps the client's stream open; empty where its dialect has none."""

    def end(self) -> bytes:
        """Return what a complete answer lacks at the end of the client's stream; usually empty."""


class Conversion(Protocol):
    """One request in the dialect of a backend, and its answer in that of the client."""

    body: bytes
    """What the backend is sent."""
    lost: tuple[str, ...]
    """What could not be carried over, by the names of the fields, sorted, each once."""

    def answer(self, body: bytes) -> bytes:
        """Return a whole answer in the dialect of the client. :raises ValueError: *body* is none of the backend's."""

    def answer_as_stream(self, body: bytes) -> bytes:
        """Return a whole answer as a stream. :raises ValueError: *body* is none of the backend's."""

    def error(self, status: int, body: bytes, request_id: str) -> bytes:
        """Return the body of an error in the dialect of the client."""

    def stream(self, framing: Framing) -> StreamConversion:
        """Begin the stream of an answer."""
