"""What is known of a model on one backend."""

import msgspec


class ModelFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a model on one backend. None means unknown, and the unknown is never excluded."""

    name: str
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
