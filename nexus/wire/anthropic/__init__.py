"""Anthropic's API.

==============  ==================================================================
``endpoints``   the endpoints of batches and files
``body``        what a request requires
``usage``       the usage in an answer
``text``        the model's text in an answer
``stream``      watches streamed answers
``converting``  converts between streams and documents
``errors``      encodes errors
``models``      lists models
``protocol``    all of it as one value
==============  ==================================================================
"""

from nexus.wire.anthropic.protocol import PROTOCOL

__all__ = ["PROTOCOL"]
