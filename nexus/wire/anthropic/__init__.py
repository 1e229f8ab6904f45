"""Anthropic's API.

``endpoints``           the paths
``body``                what a request requires
``usage``, ``text``     what an answer reports and says
``stream``              watches streamed answers
``converting``          converts between streams and documents
``errors``, ``models``  errors and listings in this format
``protocol``            all of it as one value
"""

from nexus.wire.anthropic.protocol import PROTOCOL

__all__ = ["PROTOCOL"]
