"""What was asked of a backend, as far as its answer is judged by it."""

from collections.abc import Callable
from enum import Enum, auto
from typing import Final

import msgspec

from nexus.domain.request import Endpoint
from nexus.wire.protocol import StreamScan, WireProtocol
from nexus.wire.responses.nature import Asked, Label, Nature, nature_of

DOCUMENT_TYPE: Final = b"application/json"


class Mode(Enum):
    """How the answer's bytes are treated."""

    WAITING = auto()
    """Its head has not come."""
    WHOLE = auto()
    """Held back until it is complete, then sent in one piece."""
    EVENTS = auto()
    """Watched event by event; held back until the first that carries content."""
    OPAQUE = auto()
    """Passed on as it comes: binary, compressed, or longer than is held."""


class ExpectedResponse(msgspec.Struct, frozen=True):
    """One request, to be answered by a stream or by a document."""

    protocol: WireProtocol
    endpoint: Endpoint
    is_stream: bool
    open_scan: Callable[[], StreamScan]
    """Makes what watches the answer, should it come bit by bit."""
    accept: bytes = b""
    """The client's ``Accept`` header."""

    @property
    def stream_type(self) -> bytes:
        """The content type of a stream that answers it."""
        return self.protocol.stream_type(self.endpoint).encode()

    @property
    def reads_stream(self) -> bool:
        """Whether the client can read a stream: it has asked for one, or names its type in ``Accept``."""
        return self.is_stream or self.stream_type in self.accept.lower()

    @property
    def expected_stream(self) -> Nature:
        """How a stream that answers it is framed."""
        return Nature.LINES if self.endpoint.streams_by_default else Nature.EVENTS

    def nature_of(self, label: Label, beginning: bytes, *, is_all: bool) -> Nature | None:
        """Return what an answer to it is. See :func:`nexus.wire.responses.nature.nature_of`."""
        endpoint = self.endpoint
        asked = Asked(self.is_stream, endpoint.streams_by_default, endpoint.may_be_text)
        return nature_of(asked, label, beginning, is_all=is_all)
