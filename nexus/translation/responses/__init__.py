"""The dialect of OpenAI's Responses API.

===============  ======================================================================
``request_in``   decodes a request
``items_in``     decodes the items of its input
``tools_in``     decodes its tools
``request_out``  writes a request
``items_out``    writes a conversation as input items
``answer_in``    reads a whole answer
``stream_in``    reads a stream
``output_in``    reads output items
``stream_out``   writes an answer, whole or as a stream
``blocks_out``   writes the events of one output item
``document``     writes the response object
``errors``       reads and writes errors
``fixed_tools``  tools with a fixed name and schema, as functions
``signatures``   carries thoughts, with what providers signed, through clients
``item_ids``     makes the ids of responses and items
``names``        names of tools in namespaces
===============  ======================================================================
"""

from typing import Final

from nexus.translation.dialect import Dialect
from nexus.translation.responses.answer_in import decode_answer
from nexus.translation.responses.errors import decode_error, encode_error
from nexus.translation.responses.request_in import decode_request
from nexus.translation.responses.request_out import encode_request
from nexus.translation.responses.stream_in import ResponsesDecoder
from nexus.translation.responses.stream_out import ResponsesEncoder, encode_answer

DIALECT: Final = Dialect(
    name="responses",
    endpoint="openai.responses",
    decode_request=decode_request,
    encode_request=encode_request,
    decode_answer=decode_answer,
    encode_answer=encode_answer,
    open_decoder=ResponsesDecoder,
    open_encoder=ResponsesEncoder,
    decode_error=decode_error,
    encode_error=encode_error,
    has_custom_tools=True,
    field_names={
        "thinking": "reasoning.effort",
        "reasoning_effort": "reasoning.effort",
        "verbosity": "text.verbosity",
        "response_format": "text.format",
        "strict": "tools.strict",
        "messages.thinking": "input.reasoning",
        "messages.file": "input.input_file",
    },
)
