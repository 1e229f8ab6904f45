"""What single providers do differently from the dialect that they speak, one row each."""

from collections.abc import Mapping
from typing import Final

import msgspec


class Quirks(msgspec.Struct, frozen=True, kw_only=True):
    """How requests to one provider differ."""

    schema_keys_removed: frozenset[str] = frozenset()
    """Keys of a JSON schema that the provider refuses, at any depth."""
    inlines_references: bool = False
    """Whether ``$ref`` in a schema must be replaced by what it refers to."""
    wants_thought_signature: bool = False
    """Whether each tool call in the history needs the provider's signature, or the mark that skips the check."""
    max_tokens_key: str = "max_tokens"
    """The name of the limit of an answer in OpenAI's chat dialect."""


QUIRKS: Final[Mapping[str, Quirks]] = {}
"""By the kind of the backend; no row: none."""


def quirks_of(kind: str) -> Quirks:
    """Return the quirks of backends of *kind*."""
    return QUIRKS.get(kind, _NONE)


_NONE: Final = Quirks()
