"""What is known of a model on one backend."""

from typing import Literal

import msgspec

Zone = Literal["restricted", "open"]
"""Whether data that must stay in the house may go there: ``restricted`` may get it, ``open`` may not."""


class ModelFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a model on one backend. None means unknown, and the unknown is never excluded."""

    name: str
    aliases: tuple[str, ...] = ()
    """Other names that the backend knows it by."""
    context_length: int | None = None
    """In tokens, prompt and answer together."""
    max_output_tokens: int | None = None
    vision: bool | None = None
    tools: bool | None = None
    json_mode: bool | None = None
    embeddings: bool | None = None
    created: int = 0
    """Unix seconds, as the backend first reported it; 0 when it does not say."""
    revision: str | None = None
    """Changes when what is behind the name changes; None when the backend does not say."""
    first_byte_s: float | None = None
    """A deadline of its own for the first content, as configured."""
    zone: Zone | None = None
    """Where its data really goes, when that is not where its backend stands: some local servers pass a model on to a
    cloud. None: the zone of the backend."""
    tier: int | None = None
    """How capable it is, 1 to 5, as configured; None: the tier of the backend."""
    denied: frozenset[str] = frozenset()
    """The names of the capabilities that the configuration says it does not have: for these it is never asked, where
    what its server says only makes others preferred."""
