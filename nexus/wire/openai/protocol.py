"""OpenAI's protocol as one value."""

from collections.abc import Callable, Mapping
from typing import Final

from nexus.domain.request import Endpoint
from nexus.wire.documents import is_whole
from nexus.wire.openai.body import understand
from nexus.wire.openai.chat_stream import ChatScan
from nexus.wire.openai.errors import encode_error
from nexus.wire.openai.media_stream import MediaScan
from nexus.wire.openai.responses_stream import ResponsesScan
from nexus.wire.openai.said import said_in
from nexus.wire.openai.usage import usage_of
from nexus.wire.protocol import StreamScan, WireProtocol

ENDPOINTS: Final = (
    Endpoint("openai.chat", "openai", "/v1/chat/completions"),
    Endpoint("openai.completions", "openai", "/v1/completions"),
    Endpoint("openai.embeddings", "openai", "/v1/embeddings", capability="embeddings"),
    Endpoint("openai.responses", "openai", "/v1/responses"),
    Endpoint("openai.rerank", "openai", "/v1/rerank", capability="rerank"),
    Endpoint("openai.score", "openai", "/v1/score", capability="rerank"),
    Endpoint("openai.transcriptions", "openai", "/v1/audio/transcriptions", capability="audio", body="multipart"),
    Endpoint("openai.translations", "openai", "/v1/audio/translations", capability="audio", body="multipart"),
    Endpoint("openai.speech", "openai", "/v1/audio/speech", capability="audio"),
    Endpoint("openai.images", "openai", "/v1/images/generations", capability="images"),
    Endpoint("openai.image_edits", "openai", "/v1/images/edits", capability="images", body="multipart"),
    Endpoint("openai.image_variations", "openai", "/v1/images/variations", capability="images", body="multipart"),
    Endpoint("openai.tokenize", "openai", "/tokenize", capability="tokenize"),
    Endpoint("openai.detokenize", "openai", "/detokenize", capability="tokenize"),
)

_SCANS: Final[Mapping[str, Callable[[], StreamScan]]] = {
    "openai.chat": ChatScan,
    "openai.completions": ChatScan,
    "openai.responses": ResponsesScan,
}

_MAY_BE_TEXT: Final = frozenset({"openai.speech", "openai.transcriptions", "openai.translations"})
"""They answer with sound, subtitles or bare text if asked to."""


def _open_stream(endpoint: Endpoint) -> StreamScan:
    return _SCANS.get(endpoint.name, MediaScan)()


def _looks_complete(endpoint: Endpoint, body: bytes) -> bool:
    if endpoint.name in _MAY_BE_TEXT and not body.lstrip().startswith(b"{"):
        return bool(body)
    return is_whole(body)


def _stream_type(_endpoint: Endpoint) -> str:
    return "text/event-stream"


PROTOCOL: Final = WireProtocol(
    name="openai",
    endpoints=ENDPOINTS,
    understand=understand,
    open_stream=_open_stream,
    usage_of=usage_of,
    text_of=said_in,
    looks_complete=_looks_complete,
    encode_error=encode_error,
    stream_type=_stream_type,
)
