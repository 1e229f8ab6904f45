"""Recognises an engine's error that a prompt exceeds the model's context, and reads the context's length."""

import re
from typing import Final, NamedTuple

MAX_SEARCHED_BYTES: Final = 64 * 1024
"""A longer error quotes the request, or is no error."""

STATUSES: Final = frozenset({400, 413, 422, 500, 502})
"""The statuses of such errors: 500 of older Ollama and llama.cpp, 502 of error events without a status."""

N_CTX: Final = r"\"n_ctx\": ?(\d{1,9})"
"""A member of llama.cpp's error, before or after its type and its text."""


class ContextExceeded(NamedTuple):
    """An engine refused the request as longer than its context."""

    limit: int | None
    """The engine's context in tokens; None when its error does not name it."""


class Wording(NamedTuple):
    """The error of one engine or API."""

    said_by: str
    example: str
    """The text of the error, as sent."""
    pattern: str
    """In lower case; its group is the length of the context, if the text has it."""


WORDINGS: Final = (
    Wording("llama.cpp, members", '"n_prompt_tokens":5000,"n_ctx":4096,"type":"exceed_context_size_error"', N_CTX),
    Wording(
        "OpenAI, vLLM",
        "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens",
        r"maximum context length (?:is|of) (\d{1,9})",
    ),
    Wording(
        "vLLM, max_tokens",
        "max_tokens=5000 cannot be greater than max_model_len=4096. Please request fewer output tokens.",
        r"cannot be greater than max_model_len=(\d{1,9})",
    ),
    Wording(
        "vLLM, token ids",
        "The decoder prompt (length 5951) is longer than the maximum model length of 4096.",
        r"longer than the maximum model length of (\d{1,9})",
    ),
    Wording(
        "vLLM, multimodal",
        "The prompt (total length 25938) is too long to fit into the model (context length 4096).",
        r"too long to fit into the model \(context length (\d{1,9})",
    ),
    Wording(
        "SGLang",
        "The input (5000 tokens) is longer than the model's context length (4096 tokens).",
        r"longer than the model's context length \((\d{1,9})",
    ),
    Wording(
        "SGLang, by default",
        "Input length 131393 exceeds the maximum allowed length of 131040 tokens.",
        r"exceeds the maximum allowed (?:input )?length (?:of |\()(\d{1,9})",
    ),
    Wording(
        "llama.cpp",
        "request (5000 tokens) exceeds the available context size (4096 tokens), try increasing it",
        r"exceeds the available context size(?: \((\d{1,9}))?",
    ),
    Wording("llama.cpp, type", "exceed_context_size_error", r"exceed_context_size_error"),
    Wording("OpenAI, code", "context_length_exceeded", r"context_length_exceeded"),
    Wording(
        "Anthropic",
        "prompt is too long: 205148 tokens > 200000 maximum",
        r"prompt is too long(?:: \d+ tokens > (\d{1,9}) maximum)?",
    ),
    Wording(
        "Anthropic, with max_tokens",
        "input length and `max_tokens` exceed context limit: 199000 + 8000 > 200000, decrease input length",
        r"exceed context limit(?:: \d+ \+ \d+ > (\d{1,9}))?",
    ),
    Wording(
        "Ollama",
        "the input length exceeds the context length",
        r"input length exceeds (?:the |maximum )?context length",
    ),
    Wording(
        "LM Studio",
        "Trying to keep the first 5000 tokens when context the overflows. However, the model is loaded with context"
        " length of only 4096 tokens, which is not enough.",
        r"context length of only (\d{1,9})",
    ),
    Wording(
        "TGI",
        "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000",
        r"`inputs` tokens \+ `max_new_tokens` must be <= (\d{1,9})",
    ),
    Wording(
        "TGI, prompt alone",
        "Input validation error: `inputs` must have less than 1024 tokens. Given: 2000",
        r"`inputs` must have less than (\d{1,9}) tokens",
    ),
    Wording(
        "any other",
        "the prompt exceeds the context window",
        r"(?:exceed|longer than|too long for|larger than|overflow)[^\"]{0,60}context[ _](?:length|window|size|limit)"
        r"|context[ _](?:length|window|size|limit)[^\"]{0,60}(?:exceed|overflow|too small)",
    ),
)
"""The first match counts; the last row is for all other engines."""

_PATTERNS: Final = tuple(re.compile(wording.pattern.encode(), re.DOTALL) for wording in WORDINGS)
_MARK: Final = re.compile(rb"context|model length|max_model_len|too long|allowed (?:input )?length|`inputs`")
"""Matches every wording, and is quicker than all patterns."""


def context_exceeded(status: int, body: bytes) -> ContextExceeded | None:
    """Return what the error *body* says about the context; None if it is no such error."""
    if status not in STATUSES:
        return None
    text = body[:MAX_SEARCHED_BYTES].lower()
    if _MARK.search(text) is None:
        return None
    found = next((match for pattern in _PATTERNS if (match := pattern.search(text))), None)
    if found is None:
        return None
    limit = found[1] if found.re.groups else None
    return ContextExceeded(int(limit) if limit else None)
