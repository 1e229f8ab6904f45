"""OpenAI's protocol as one value."""

from collections.abc import Callable, Mapping
from typing import Final

from nexus.domain.request import Endpoint
from nexus.wire.documents import is_whole
from nexus.wire.openai.as_stream import as_stream
from nexus.wire.openai.body import understand
from nexus.wire.openai.chat_stream import ChatScan
from nexus.wire.openai.collecting import collector
from nexus.wire.openai.endpoints import ASKING, KEEPING, NATIVE
from nexus.wire.openai.errors import encode_error
from nexus.wire.openai.media_stream import MediaScan, NativeScan
from nexus.wire.openai.responses_stream import ResponsesScan
from nexus.wire.openai.text import text_of
from nexus.wire.openai.usage import usage_of
from nexus.wire.protocol import WireProtocol
from nexus.wire.streams.scan import StreamScan

ENDPOINTS: Final = (*ASKING, *KEEPING)

_SCANS: Final[Mapping[str, Callable[[], StreamScan]]] = {
    "openai.chat": ChatScan,
    "openai.completions": ChatScan,
    "openai.responses": ResponsesScan,
    "openai.response": ResponsesScan,
    **dict.fromkeys((endpoint.name for endpoint in NATIVE), NativeScan),
}


def _open_stream(endpoint: Endpoint) -> StreamScan:
    return _SCANS.get(endpoint.name, MediaScan)()


def _looks_complete(endpoint: Endpoint, body: bytes) -> bool:
    if endpoint.may_be_text and not body.lstrip().startswith(b"{"):
        return bool(body)
    return is_whole(body)


PROTOCOL: Final = WireProtocol(
    name="openai",
    endpoints=ENDPOINTS,
    understand=understand,
    open_stream=_open_stream,
    usage_of=usage_of,
    text_of=text_of,
    looks_complete=_looks_complete,
    collector=collector,
    as_stream=as_stream,
    encode_error=encode_error,
    stream_type="text/event-stream",
)
