"""Ollama's protocol as one value."""

from typing import Final

from nexus.domain.request import Endpoint
from nexus.wire.documents import is_whole
from nexus.wire.ollama.body import understand
from nexus.wire.ollama.converting import as_stream, collector
from nexus.wire.ollama.errors import encode_error
from nexus.wire.ollama.stream import AnswerScan
from nexus.wire.ollama.text import text_of
from nexus.wire.ollama.usage import load_s_of, usage_of
from nexus.wire.protocol import WireProtocol

ENDPOINTS: Final = (
    Endpoint("ollama.chat", "ollama", "/api/chat", streams_by_default=True),
    Endpoint("ollama.generate", "ollama", "/api/generate", streams_by_default=True),
    Endpoint("ollama.embed", "ollama", "/api/embed", capability="embeddings"),
    Endpoint("ollama.embeddings", "ollama", "/api/embeddings", capability="embeddings"),
)


PROTOCOL: Final = WireProtocol(
    name="ollama",
    endpoints=ENDPOINTS,
    understand=understand,
    open_stream=lambda _endpoint: AnswerScan(),
    usage_of=usage_of,
    load_s_of=load_s_of,
    text_of=text_of,
    looks_complete=lambda _endpoint, body: is_whole(body),
    collector=collector,
    as_stream=as_stream,
    encode_error=encode_error,
    stream_type="application/x-ndjson",
)
