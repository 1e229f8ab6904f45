"""Anthropic's messages.

==================  ==================================================================
``request_in``      reads a request
``content``         reads the content of messages
``tools``           reads the tools and the choice of one
``request_out``     writes a request
``content_out``     writes the content of messages
``thinking``        writes how much the model may think
``turns``           pairs the calls of tools with their results
``signatures``      marks what Anthropic's API has signed or encrypted
``abilities``       what models accept, by their names
``stream_in``       reads a stream
``stream_out``      writes a stream
``answer_in``       reads a whole answer
``answer_out``      writes a whole answer
``usage``           converts between inclusive and exclusive counts of tokens
``reasons``         why an answer ended
``errors``          reads and writes errors
``messages``        all of it as one value
==================  ==================================================================
"""

from nexus.translation.anthropic.messages import DIALECT

__all__ = ["DIALECT"]
