"""The protocol of OpenAI's clients, which most engines speak too."""

from nexus.wire.openai.protocol import PROTOCOL

__all__ = ["PROTOCOL"]
