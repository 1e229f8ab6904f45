"""The table of all protocols and their endpoints."""

from collections.abc import Mapping
from typing import Final

from nexus.domain.request import Endpoint
from nexus.wire import anthropic, ollama, openai
from nexus.wire.protocol import WireProtocol

PROTOCOLS: Final[Mapping[str, WireProtocol]] = {
    protocol.name: protocol for protocol in (openai.PROTOCOL, ollama.PROTOCOL, anthropic.PROTOCOL)
}

EVERY: Final[tuple[Endpoint, ...]] = tuple(
    endpoint for protocol in PROTOCOLS.values() for endpoint in protocol.endpoints
)
"""All endpoints; see :mod:`nexus.wire.paths`."""

ENDPOINTS: Final[Mapping[str, Endpoint]] = {endpoint.path: endpoint for endpoint in EVERY if endpoint.is_modelled}
"""The endpoints that ask a model, by path."""
