"""OpenAI's chat dialect, which most engines and many clouds speak.

===============  ======================================================================
``request_in``   reads requests
``history_in``   reads the messages of requests
``request_out``  writes requests
``history_out``  writes the messages of requests
``schemas``      rewrites schemas for providers that take a subset
``message``      reads what whole answers and chunks of streams have in common
``documents``    decodes both, also of servers that only resemble the dialect
``answer_in``    reads whole answers
``answer_out``   writes whole answers
``stream_in``    reads streams
``stream_out``   writes streams
``usage``        reads and writes the usage
``errors``       reads and writes errors
===============  ======================================================================
"""

from typing import Final

from nexus.translation.dialect import Dialect
from nexus.translation.openai.answer_in import decode_answer
from nexus.translation.openai.answer_out import encode_answer
from nexus.translation.openai.errors import decode_error, encode_error
from nexus.translation.openai.request_in import decode_request
from nexus.translation.openai.request_out import encode_request
from nexus.translation.openai.stream_in import ChatStreamDecoder
from nexus.translation.openai.stream_out import ChatStreamEncoder

DIALECT: Final = Dialect(
    name="openai",
    endpoint="openai.chat",
    decode_request=decode_request,
    encode_request=encode_request,
    decode_answer=decode_answer,
    encode_answer=encode_answer,
    open_decoder=ChatStreamDecoder,
    open_encoder=ChatStreamEncoder,
    decode_error=decode_error,
    encode_error=encode_error,
    field_names={"thinking": "reasoning_effort"},
)
