"""What is known of a model on one backend."""

from typing import Literal

import msgspec

Zone = Literal["restricted", "open"]
"""Whether a backend may receive data that must not leave the organisation: ``restricted`` may, ``open`` may not."""


class ModelFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a model on one backend. None means unknown, which never excludes a backend."""

    name: str
    aliases: tuple[str, ...] = ()
    """Other names that the backend accepts for it."""
    context_length: int | None = None
    """In tokens, prompt and answer together."""
    max_output_tokens: int | None = None
    vision: bool | None = None
    tools: bool | None = None
    json_mode: bool | None = None
    embeddings: bool | None = None
    thinking: bool | None = None
    """Whether it can think before it answers."""
    created: int = 0
    """Unix seconds, as the backend first reported it; 0 when unknown."""
    revision: str | None = None
    """Changes when the model behind the name changes; None when unknown."""
    first_byte_s: float | None = None
    """The deadline for its first content, if one is configured for this model."""
    max_in_flight: int | None = None
    """How many requests for it are sent to the backend at once, if configured for this model."""
    zone: Zone | None = None
    """The zone of its data where that differs from its backend's: some local servers forward a model to a cloud.
    None: the zone of the backend."""
    tier: int | None = None
    """How capable it is, 1 to 5, if configured; None: the tier of the backend."""
    denied: frozenset[str] = frozenset()
    """The capabilities that the configuration denies it: it never gets requests that need them, while a denial by its
    server only makes other backends preferred."""
