"""The protocol of Anthropic's clients."""

from nexus.wire.anthropic.protocol import PROTOCOL

__all__ = ["PROTOCOL"]
