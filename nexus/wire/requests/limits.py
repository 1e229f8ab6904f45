"""The types of request members that routing reads, and the bounds beyond which a request is made to do harm.

A bound here is at least what the most generous engine takes: what is merely unwise is the engine's to refuse.
"""

from typing import Annotated, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

MAX_CHOICES: Final = 16_384
"""What vLLM takes by default (``VLLM_MAX_N_SEQUENCES``); older versions allocate for each, and die of a million."""

MAX_ALTERNATIVES: Final = 1_000_000
"""More than any vocabulary has tokens; engines have limits of their own for it."""

MAX_ANSWER_TOKENS: Final = 2**53
"""The largest whole number of JavaScript, which some clients send for "as many as you like"."""

Numeral = Annotated[str, Meta(pattern=r"^-?[0-9]{1,15}$")]
"""A number in quotes, which the servers that read bodies with pydantic take for one."""

Choices = Annotated[int, Meta(ge=0, le=MAX_CHOICES)] | Annotated[float, Meta(ge=0, le=MAX_CHOICES)] | None
"""How many answers at once."""

TopTokens = (
    Annotated[int, Meta(ge=-1, le=MAX_ALTERNATIVES)]
    | Annotated[float, Meta(ge=-1, le=MAX_ALTERNATIVES)]
    | Numeral
    | bool
    | None
)
"""How many alternatives per token; -1 is all of them in vLLM."""

MaxTokens = (
    Annotated[int, Meta(ge=-(2**31), le=MAX_ANSWER_TOKENS)]
    | Annotated[float, Meta(ge=-(2**31), le=MAX_ANSWER_TOKENS)]
    | Numeral
    | None
)
"""How long an answer may be; negative numbers mean without limit, or to the end of the context."""

MAX_COUNTED_TOKENS: Final = 2**31
"""An answer that may be longer counts as one that may be so long."""

TokenCount = Annotated[int, Meta(ge=0, le=1_000_000_000)]
"""What a backend may claim to have counted; a larger claim is no count."""

Refused = Literal["\x00"] | UnsetType
"""No value at all."""

MAX_ITEMS: Final = 100_000
"""Of one list; token ids are not counted, as a long context takes more of them."""

MAX_MODEL_CHARACTERS: Final = 1024


class RoutedBody(msgspec.Struct, gc=False):
    """What routing reads of any body. All else is skipped by the decoder, and never becomes an object."""

    model: str | None = ""
    stream: bool | None = None


class SteeringBody(RoutedBody, gc=False):
    """A body in a protocol that other proxies speak too.

    Some of them let a request name the server and the key that it is sent with; one that reaches a backend by way of
    such a proxy must not get there with them. None of these members is in the API of OpenAI or of Anthropic.
    """

    api_base: Refused = UNSET
    base_url: Refused = UNSET
    api_key: Refused = UNSET
    api_version: Refused = UNSET
    extra_headers: Refused = UNSET
    mock_response: Refused = UNSET
    user_config: Refused = UNSET
