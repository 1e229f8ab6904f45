"""What kind of response the request asks for: the measure by which the actual one is judged."""

from collections.abc import Callable
from typing import Final, Literal

import msgspec

from nexus.domain.request import Endpoint
from nexus.wire.protocol import WireProtocol
from nexus.wire.responses.nature import ExpectedFormat, Nature
from nexus.wire.streams.scan import StreamScan

DOCUMENT_TYPE: Final = b"application/json"
MAX_TRANSLATED_BYTES: Final = 64 * 1024 * 1024
"""A longer document is not translated. Embeddings of many texts are that long."""
UNREADABLE: Final = (
    "its answer cannot be translated: it is compressed, binary, or longer than"
    f" {MAX_TRANSLATED_BYTES // 1024**2} MiB or what limits.max_held_answer_bytes has left"
)


Mode = Literal["waiting", "whole", "events", "opaque"]
"""How the body of a response is treated.

``waiting``: its head has not arrived. ``whole``: held back until it is complete, then sent in one piece. ``events``:
read event by event; held back until the first that carries content. ``opaque``: passed on as it arrives, because it is
binary, compressed, or longer than may be held back.
"""


class ExpectedResponse(msgspec.Struct, frozen=True):
    """What the request asks for: a stream or a document, of one endpoint."""

    protocol: WireProtocol
    endpoint: Endpoint
    asked: ExpectedFormat
    open_scan: Callable[[], StreamScan]
    """Makes what reads the response, if it is a stream."""
    accept: bytes = b""
    """The client's ``Accept`` header."""
    max_bytes: int | None = None
    """The longest document that is translated; None: it is not translated, and passed on however long it is."""

    @property
    def stream_type(self) -> bytes:
        """The content type of a stream."""
        return self.protocol.stream_type.encode()

    @property
    def reads_stream(self) -> bool:
        """Whether the client can read a stream: it has asked for one, or names its type in ``Accept``."""
        return self.asked.is_stream or self.stream_type in self.accept.lower()

    @property
    def expected_stream(self) -> Nature:
        """How a stream is framed."""
        return "lines" if self.endpoint.streams_by_default else "events"
