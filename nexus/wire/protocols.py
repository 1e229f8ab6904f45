"""All protocols that clients may speak, and every endpoint by its path."""

from collections.abc import Mapping
from typing import Final

from nexus.domain.request import Endpoint
from nexus.wire import anthropic, ollama, openai
from nexus.wire.protocol import WireProtocol

PROTOCOLS: Final[Mapping[str, WireProtocol]] = {
    protocol.name: protocol for protocol in (openai.PROTOCOL, ollama.PROTOCOL, anthropic.PROTOCOL)
}

ENDPOINTS: Final[Mapping[str, Endpoint]] = {
    endpoint.path: endpoint for protocol in PROTOCOLS.values() for endpoint in protocol.endpoints
}
