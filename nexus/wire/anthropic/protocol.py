"""Anthropic's protocol as one value."""

from typing import Final

from nexus.domain.request import Endpoint
from nexus.wire.anthropic.body import understand
from nexus.wire.anthropic.converting import as_stream, collector
from nexus.wire.anthropic.endpoints import KEEPING
from nexus.wire.anthropic.errors import encode_error
from nexus.wire.anthropic.stream import CompletionScan, MessageScan
from nexus.wire.anthropic.text import text_of
from nexus.wire.anthropic.usage import usage_of
from nexus.wire.documents import is_whole
from nexus.wire.protocol import WireProtocol
from nexus.wire.streams.scan import StreamScan

ENDPOINTS: Final = (
    Endpoint("anthropic.messages", "anthropic", "/v1/messages"),
    Endpoint("anthropic.count_tokens", "anthropic", "/v1/messages/count_tokens"),
    Endpoint("anthropic.complete", "anthropic", "/v1/complete"),
    *KEEPING,
)


def _open_stream(endpoint: Endpoint) -> StreamScan:
    return CompletionScan() if endpoint.name == "anthropic.complete" else MessageScan()


PROTOCOL: Final = WireProtocol(
    name="anthropic",
    endpoints=ENDPOINTS,
    understand=understand,
    open_stream=_open_stream,
    usage_of=usage_of,
    text_of=text_of,
    looks_complete=lambda _endpoint, body: is_whole(body),
    collector=collector,
    as_stream=as_stream,
    encode_error=encode_error,
    stream_type="text/event-stream",
)
