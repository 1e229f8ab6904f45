"""Anthropic's messages.

==================  ==================================================================
``request_in``      reads a request
``content``         reads the content of messages
``tools``           reads the tools and the choice of one
``stream_out``      writes a stream
``answer_out``      writes a whole answer
``usage``           converts between inclusive and exclusive counts of tokens
``reasons``         why an answer ended
``errors``          reads and writes errors
``messages``        all of it as one value
==================  ==================================================================
"""

from nexus.translation.anthropic.messages import DIALECT

__all__ = ["DIALECT"]
