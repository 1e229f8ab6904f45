"""The ``[plugins.affinity]`` table."""

from typing import Annotated

from msgspec import Meta

from nexus.api import PluginConfig


class AffinityConfig(PluginConfig):
    """How much of the caches of backends is remembered."""

    assumed_cache_tokens: Annotated[int, Meta(ge=1, le=2**40)] = 1_048_576
    """The size of a backend's cache in tokens, where the engine does not report it."""
    max_index_bytes: Annotated[int, Meta(ge=65_536, le=2**36)] = 16_777_216
    """The memory, for each backend, in which its cache is remembered; 320 bytes for each KiB of prompts."""
