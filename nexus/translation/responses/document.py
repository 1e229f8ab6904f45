"""Writes the response object, which a whole answer is, and which some events of a stream contain."""

from collections.abc import Mapping
from typing import Final

import msgspec

from nexus.translation.dialect import AnswerContext
from nexus.translation.events import Usage
from nexus.translation.responses.item_ids import response_id

_DEFAULTS: Final[Mapping[str, bytes]] = {
    "background": b"false",
    "instructions": b"null",
    "max_output_tokens": b"null",
    "max_tool_calls": b"null",
    "metadata": b"{}",
    "parallel_tool_calls": b"true",
    "previous_response_id": b"null",
    "prompt_cache_key": b"null",
    "reasoning": b'{"effort":null,"summary":null}',
    "safety_identifier": b"null",
    "service_tier": b'"default"',
    "store": b"false",
    "temperature": b"null",
    "text": b'{"format":{"type":"text"}}',
    "tool_choice": b'"auto"',
    "tools": b"[]",
    "top_logprobs": b"0",
    "top_p": b"null",
    "truncation": b'"disabled"',
    "user": b"null",
}
"""Members that repeat the request, with what they are if it has none."""

NULL: Final = b"null"


class ResponseDocument:
    """The response object of one answer, in each of its states."""

    __slots__ = ("_head", "_tail")

    def __init__(self, backend_id: str, context: AnswerContext) -> None:
        echo = {} if context.request is None else context.request.echo
        self._head = b'{"id":%b,"object":"response","created_at":%d,"model":%b,' % (
            msgspec.json.encode(response_id(backend_id, context.id)),
            context.created,
            msgspec.json.encode(context.model),
        )
        members = (
            b'"%b":%b' % (name.encode(), one_line(echo[name]) if name in echo else default)
            for name, default in _DEFAULTS.items()
        )
        self._tail = b",".join(members) + b"}"

    def write(
        self, status: str, output: bytes, usage: bytes = NULL, *, error: bytes = NULL, incomplete: bytes = NULL
    ) -> bytes:
        """Return the object with this *status*; the other arguments are JSON, *output* that of its items."""
        return b'%b"status":"%b","error":%b,"incomplete_details":%b,"output":[%b],"usage":%b,%b' % (
            self._head,
            status.encode(),
            error,
            incomplete,
            output,
            usage,
            self._tail,
        )


def one_line(json: msgspec.Raw | bytes) -> bytes:
    """Return *json* without line ends, which the data of an event must not have."""
    content = bytes(json)
    return msgspec.json.format(content, indent=-1) if b"\n" in content or b"\r" in content else content


def usage_json(usage: Usage) -> bytes:
    """Return the JSON of *usage*, with all its members, which client libraries require; what is not known is 0."""
    read, written = usage.input_tokens or 0, usage.output_tokens or 0
    return (
        b'{"input_tokens":%d,"input_tokens_details":{"cached_tokens":%d,"cache_write_tokens":%d},'
        b'"output_tokens":%d,"output_tokens_details":{"reasoning_tokens":%d},"total_tokens":%d}'
    ) % (
        read,
        usage.cached_tokens or 0,
        usage.cache_write_tokens or 0,
        written,
        usage.reasoning_tokens or 0,
        read + written,
    )
