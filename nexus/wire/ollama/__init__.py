"""The protocol of Ollama's own clients."""

from nexus.wire.ollama.protocol import PROTOCOL

__all__ = ["PROTOCOL"]
