"""Ollama's dialects: its chat, and its completion, which is translated for clients only.

================  =====================================================================
``chat_in``       reads requests for a chat
``generate_in``   reads requests for a completion
``options``       the fields that both requests have
``history_in``    reads the messages of a request
``chat_out``      writes requests for a chat
``history_out``   writes the messages of a request
``answer_in``     reads answers and streams
``answer_out``    writes answers and streams
``errors``        reads and writes errors
================  =====================================================================
"""

from functools import partial
from typing import Final

from nexus.translation.dialect import AnswerContext, Dialect, StreamEncoder
from nexus.translation.ollama.answer_in import LineDecoder, decode_answer
from nexus.translation.ollama.answer_out import CHAT, GENERATE, LineEncoder, encode_answer
from nexus.translation.ollama.chat_in import decode_request
from nexus.translation.ollama.chat_out import encode_request
from nexus.translation.ollama.errors import decode_error, encode_error
from nexus.translation.ollama.generate_in import decode_request as decode_completion_request


def _open_chat(context: AnswerContext) -> StreamEncoder:
    return LineEncoder(context, CHAT)


def _open_completion(context: AnswerContext) -> StreamEncoder:
    return LineEncoder(context, GENERATE)


_OPTIONS: Final = ("temperature", "top_p", "top_k", "seed", "presence_penalty", "frequency_penalty", "stop")
_FIELD_NAMES: Final = {
    **{name: f"options.{name}" for name in _OPTIONS},
    "max_tokens": "options.num_predict",
    "thinking": "think",
    "reasoning_effort": "think",
    "response_format": "format",
}

DIALECT: Final = Dialect(
    name="ollama",
    endpoint="ollama.chat",
    decode_request=decode_request,
    encode_request=encode_request,
    decode_answer=decode_answer,
    encode_answer=partial(encode_answer, form=CHAT),
    open_decoder=LineDecoder,
    open_encoder=_open_chat,
    decode_error=decode_error,
    encode_error=encode_error,
    field_names=_FIELD_NAMES,
)

COMPLETION_DIALECT: Final = Dialect(
    name="generate",
    endpoint="ollama.generate",
    decode_request=decode_completion_request,
    encode_request=None,
    decode_answer=None,
    encode_answer=partial(encode_answer, form=GENERATE),
    open_decoder=None,
    open_encoder=_open_completion,
    decode_error=decode_error,
    encode_error=encode_error,
    field_names=_FIELD_NAMES,
)
