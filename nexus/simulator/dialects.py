"""How servers that share an API differ, with one row for each kind."""

from collections.abc import Mapping
from typing import Final, Literal

import msgspec


class Dialect(msgspec.Struct, frozen=True, kw_only=True):
    """What a client or a proxy can observe of one kind of server."""

    name: str
    server: str | None = None
    """Its ``Server`` header."""
    owned_by: str = "library"
    head_at: Literal["accepted", "slot", "first_token"] = "slot"
    """When the head of a stream is sent: at once, when a slot is free, or with the first token."""
    first_content: str | None = ""
    """The content of the first chunk, which also carries the role."""
    reasoning_field: str = "reasoning_content"
    """The member of OpenAI's messages and deltas with the thoughts."""
    finishes_with_last_token: bool = False
    """The finish reason is in the chunk of the last token, not in a chunk of its own."""
    has_null_usage: bool = False
    """When usage is requested, chunks before the last one carry ``usage: null``."""
    has_timings: bool = False
    has_sequence_numbers: bool = True
    """In the events of the Responses API."""
    long_prompts: Literal["refused", "refused_with_answer", "cut"] = "refused"
    """What happens to a prompt that exceeds the context: it is refused, refused also if only ``max_tokens`` exceeds
    it, or truncated."""
    reports_too_long_in_stream: bool = False
    """A prompt that is too long is reported as an event of the stream."""
    reads_request_id: bool = False
    """``X-Request-Id`` is the id of the answer."""
    answers_to_any_model: bool = False
    has_default_model: bool = False
    """A request may omit the model."""
    keeps_responses: bool = True
    """A response is stored, and can be retrieved and continued by its id."""
    has_latest_tag: bool = False
    """``x`` means ``x:latest``, and names are not case-sensitive."""
    closes_after_stream: bool = False
    """The connection closes after a stream without ``Connection: close``."""
    closes_after_error: bool = False
    idle_s: float | None = None
    """The keep-alive timeout; None: no limit."""
    checks_tools: bool = False
    """Tools are refused for a model without that capability."""
    checks_host: bool = False
    """A ``Host`` that is not local is refused with 403."""
    guarded_prefixes: tuple[str, ...] = ("/",)
    open_paths: frozenset[str] = frozenset()
    """Paths under the guarded prefixes that need no key."""
    takes_x_api_key: bool = True


DIALECTS: Final[Mapping[str, Dialect]] = {
    dialect.name: dialect
    for dialect in (
        Dialect(name="generic", owned_by="simulator", has_null_usage=True),
        Dialect(
            name="ollama",
            reasoning_field="reasoning",
            head_at="first_token",
            keeps_responses=False,
            long_prompts="cut",
            has_latest_tag=True,
            checks_tools=True,
            checks_host=True,
        ),
        Dialect(
            name="vllm",
            reasoning_field="reasoning",
            server="uvicorn",
            owned_by="vllm",
            head_at="accepted",
            finishes_with_last_token=True,
            long_prompts="refused_with_answer",
            reads_request_id=True,
            has_default_model=True,
            idle_s=5.0,
            guarded_prefixes=("/v1/", "/v2/"),
            takes_x_api_key=False,
        ),
        Dialect(
            name="llamacpp",
            server="llama.cpp",
            owned_by="llamacpp",
            first_content=None,
            has_timings=True,
            has_sequence_numbers=False,
            answers_to_any_model=True,
            keeps_responses=False,
            closes_after_stream=True,
            closes_after_error=True,
            idle_s=5.0,
            open_paths=frozenset({"/health", "/v1/health"}),
        ),
        Dialect(
            name="sglang",
            server="uvicorn",
            owned_by="sglang",
            long_prompts="refused_with_answer",
            head_at="accepted",
            idle_s=5.0,
            open_paths=frozenset({"/health", "/metrics"}),
            takes_x_api_key=False,
        ),
        Dialect(name="lmstudio", owned_by="organization_owner", reports_too_long_in_stream=True, idle_s=5.0),
    )
}
