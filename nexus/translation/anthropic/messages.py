"""Anthropic's dialect as one value."""

from typing import Final

from nexus.translation.anthropic.answer_in import decode_answer
from nexus.translation.anthropic.answer_out import encode_answer
from nexus.translation.anthropic.errors import decode_error, encode_error
from nexus.translation.anthropic.request_in import decode_request
from nexus.translation.anthropic.request_out import encode_request
from nexus.translation.anthropic.stream_in import StreamIn
from nexus.translation.anthropic.stream_out import StreamOut
from nexus.translation.dialect import Dialect

DIALECT: Final = Dialect(
    name="anthropic",
    endpoint="anthropic.messages",
    decode_request=decode_request,
    encode_request=encode_request,
    decode_answer=decode_answer,
    encode_answer=encode_answer,
    open_decoder=StreamIn,
    open_encoder=StreamOut,
    decode_error=decode_error,
    encode_error=encode_error,
    field_names={
        "reasoning_effort": "output_config.effort",
        "budget_tokens": "thinking.budget_tokens",
        "response_format": "output_config.format",
        "parallel_tool_calls": "tool_choice.disable_parallel_tool_use",
        "strict": "tools.strict",
        "user": "metadata.user_id",
    },
    headers={b"anthropic-version": b"2023-06-01"},
)
