"""The types of the request members that routing reads, and the bounds beyond which a request does harm.

Each bound is at least that of the most generous engine; anything less harmful is left to the engine to refuse.
"""

from typing import Annotated, Final, Literal

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

MAX_CHOICES: Final = 16_384
"""vLLM's default (``VLLM_MAX_N_SEQUENCES``); older versions allocate memory for each, and crash at a million."""

MAX_ALTERNATIVES: Final = 1_000_000
"""More than the tokens of any vocabulary; engines have lower limits of their own."""

MAX_ANSWER_TOKENS: Final = 2**53
"""JavaScript's largest safe integer, which some clients send for "unlimited"."""

Numeral = Annotated[str, Meta(pattern=r"^-?[0-9]{1,15}$")]
"""A number in quotes, which servers that use pydantic accept."""

Choices = Annotated[int, Meta(ge=0, le=MAX_CHOICES)] | Annotated[float, Meta(ge=0, le=MAX_CHOICES)] | None
"""The number of answers."""

TopTokens = (
    Annotated[int, Meta(ge=-1, le=MAX_ALTERNATIVES)]
    | Annotated[float, Meta(ge=-1, le=MAX_ALTERNATIVES)]
    | Numeral
    | bool
    | None
)
"""The number of alternatives per token; -1 means all in vLLM."""

MaxTokens = (
    Annotated[int, Meta(ge=-(2**31), le=MAX_ANSWER_TOKENS)]
    | Annotated[float, Meta(ge=-(2**31), le=MAX_ANSWER_TOKENS)]
    | Numeral
    | None
)
"""The limit of an answer; negative numbers mean unlimited, or until the context is full."""

MAX_COUNTED_TOKENS: Final = 2**31
"""A higher limit counts as this one."""

TokenCount = Annotated[int, Meta(ge=0, le=1_000_000_000)]
"""A count that a backend reports; a larger one is taken as no count."""

Refused = Literal["\x00"] | UnsetType
"""Accepts no value."""

MAX_ITEMS: Final = 100_000
"""Per list; token ids are not counted, because a long context has more of them."""

MAX_MODEL_CHARACTERS: Final = 1024


NOTHING: Final = Raw()
"""A member that the body does not have."""


class RoutedBody(msgspec.Struct, gc=False):
    """What routing reads from any body. The decoder skips all other members without creating objects."""

    model: str | None = ""
    stream: bool | None = None

    # The prompt, in the order in which chat templates write it.
    tools: Raw = NOTHING
    functions: Raw = NOTHING
    system: Raw = NOTHING
    instructions: Raw = NOTHING
    context: Raw = NOTHING
    messages: Raw = NOTHING
    prompt: Raw = NOTHING
    input: Raw = NOTHING
    input_ids: Raw = NOTHING
    text: Raw = NOTHING
    """The prompt if it is a string; in the Responses API, the format of the answer."""

    # What the cache of a prompt depends on.
    cache_salt: Raw = NOTHING
    """Of vLLM and SGLang: requests with different salts share no cache."""
    lora_path: Raw = NOTHING
    """Of SGLang: an adapter, whose cache is its own. vLLM names adapters as models."""
    prompt_cache_key: Raw = NOTHING
    session_id: Raw = NOTHING


class SteeringBody(RoutedBody, gc=False):
    """A body in a protocol that other proxies use as well.

    Some of them let a request choose the server and the key that it is sent with, which must not reach such a proxy
    behind a backend. None of these members is in the API of OpenAI or Anthropic.
    """

    api_base: Refused = UNSET
    base_url: Refused = UNSET
    api_key: Refused = UNSET
    api_version: Refused = UNSET
    extra_headers: Refused = UNSET
    mock_response: Refused = UNSET
    user_config: Refused = UNSET
