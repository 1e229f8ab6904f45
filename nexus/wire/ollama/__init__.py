"""Ollama's API.

``body``                what a request requires
``usage``, ``text``     what an answer reports and says
``stream``              watches streamed answers
``converting``          converts between streams and documents
``errors``, ``models``  errors and listings in this format
``protocol``            endpoints, and all of it as one value
"""

from nexus.wire.ollama.protocol import PROTOCOL

__all__ = ["PROTOCOL"]
