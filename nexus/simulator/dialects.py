"""The habits by which servers that speak the same API differ, one row for each kind."""

from collections.abc import Mapping
from typing import Final, Literal

import msgspec


class Dialect(msgspec.Struct, frozen=True, kw_only=True):
    """How one kind of server differs from the others, as far as clients and proxies can see."""

    name: str
    server: str | None = None
    """Its ``Server`` header."""
    owned_by: str = "library"
    head_at: Literal["accepted", "slot", "first_token"] = "slot"
    """When a stream's head is sent: at once, even if queued; when a slot is free; not before the first token."""
    first_content: str | None = ""
    """The content of the first chunk, beside its role."""
    does_finish_ride: bool = False
    """The finish reason comes with the last token instead of in a chunk of its own."""
    has_null_usage: bool = False
    """Chunks before the last say ``usage: null`` when usage was asked for."""
    has_timings: bool = False
    has_sequence_numbers: bool = True
    """In the events of the Responses API."""
    long_prompts: Literal["refused", "refused_with_answer", "cut"] = "refused"
    """What becomes of a prompt longer than the context: a refusal, also when only ``max_tokens`` does not fit beside
    it, or a shorter prompt."""
    says_too_long_in_stream: bool = False
    """The head of a stream has gone out when it sees that the prompt is too long."""
    reads_request_id: bool = False
    """``X-Request-Id`` becomes the id of the answer."""
    answers_to_any_model: bool = False
    has_default_model: bool = False
    """A request may leave the model out."""
    keeps_responses: bool = True
    """A response can be asked for, and gone on with, by its id."""
    has_latest_tag: bool = False
    """``x`` is ``x:latest``, and letter case does not count."""
    closes_after_stream: bool = False
    """It closes the connection after a stream without saying so."""
    closes_after_error: bool = False
    idle_s: float | None = None
    """How long it keeps an idle connection; None: for ever."""
    checks_tools: bool = False
    """Tools for a model that has not learned to call them are refused."""
    checks_host: bool = False
    """A ``Host`` that is not local is refused with 403."""
    guarded_prefixes: tuple[str, ...] = ("/",)
    open_paths: frozenset[str] = frozenset()
    """Paths below the guarded ones that ask for no key."""
    takes_x_api_key: bool = True


DIALECTS: Final[Mapping[str, Dialect]] = {
    dialect.name: dialect
    for dialect in (
        Dialect(name="generic", owned_by="simulator", has_null_usage=True),
        Dialect(
            name="ollama",
            head_at="first_token",
            keeps_responses=False,
            long_prompts="cut",
            has_latest_tag=True,
            checks_tools=True,
            checks_host=True,
        ),
        Dialect(
            name="vllm",
            server="uvicorn",
            owned_by="vllm",
            head_at="accepted",
            does_finish_ride=True,
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
        Dialect(name="lmstudio", owned_by="organization_owner", says_too_long_in_stream=True, idle_s=5.0),
    )
}
