"""OpenAI's API, with the further endpoints of engines that follow it.

``endpoints``           the paths
``body``                what a request requires, and what it refers to
``usage``, ``text``     what an answer reports and says
``stream``, ``chat_stream``, ``responses_stream``, ``media_stream``  watch streamed answers
``collecting``, ``as_stream``  convert streams into documents, and documents into streams
``errors``, ``models``  errors and listings in this format
``protocol``            all of it as one value
"""

from nexus.wire.openai.protocol import PROTOCOL

__all__ = ["PROTOCOL"]
