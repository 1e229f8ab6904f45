"""OpenAI's API, with the endpoints of engines that follow it.

====================  ==================================================================
``endpoints``         the endpoints
``body``              what a request requires, and what it refers to
``usage``             the usage in an answer
``text``              the model's text in an answer
``stream``            watches streamed answers: the shared part
``chat_stream``       chats and text completions
``responses_stream``  the Responses API
``media_stream``      speech, transcripts, images, engines' own endpoints
``collecting``        merges streams into documents
``as_stream``         converts documents into streams
``errors``            encodes errors
``models``            lists models
``protocol``          all of it as one value
====================  ==================================================================
"""

from nexus.wire.openai.protocol import PROTOCOL

__all__ = ["PROTOCOL"]
