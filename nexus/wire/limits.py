"""The types of request members that routing reads, with the values that nobody can mean."""

from typing import Annotated, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

MOST_CHOICES: Final = 128

Choices = Annotated[int, Meta(ge=0, le=MOST_CHOICES)] | Annotated[float, Meta(ge=0, le=MOST_CHOICES)] | None
"""How many answers at once: engines allocate for each, and some die of a million."""

TopTokens = Annotated[int, Meta(ge=-1, le=100)] | Annotated[float, Meta(ge=-1, le=100)] | bool | None
"""How many alternatives per token; -1 is all of them in vLLM, and the engine has a limit of its own for that."""

MaxTokens = Annotated[int, Meta(ge=-2, le=2**31)] | Annotated[float, Meta(ge=-2, le=2**31)] | None
"""How long an answer may be; -1 and -2 mean without limit, or to the end of the context."""

TokenCount = Annotated[int, Meta(ge=0, le=10_000_000)]
"""What a backend may claim to have counted; a larger claim is no count."""

Refused = Literal["\x00"] | UnsetType
"""No value at all."""

MOST_ITEMS: Final = 100_000
LONGEST_MODEL: Final = 1024


class RoutedBody(msgspec.Struct, gc=False):
    """What routing reads of any body. All else is skipped by the decoder, and never becomes an object."""

    model: str = ""
    stream: bool | None = None

    # Other proxies let a request name the server and the key that it is sent with; one that reaches a backend by way
    # of such a proxy must not get there with them.
    api_base: Refused = UNSET
    base_url: Refused = UNSET
    api_key: Refused = UNSET
    api_version: Refused = UNSET
    extra_headers: Refused = UNSET
    mock_response: Refused = UNSET
    user_config: Refused = UNSET
    fallbacks: Refused = UNSET


UNSUPPORTED: Final = frozenset(RoutedBody.__struct_fields__) - {"model", "stream"}
