"""What a request waits with, and what an attempt to serve it finds."""

from collections.abc import Hashable
from typing import Generic, TypeVar

import msgspec

T = TypeVar("T")


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """A request as the queue sees it."""

    client: str
    """Identifies the client; clients share the slots equally, however many requests each of them has."""
    label: str = ""
    """What operators are shown of the client: never its key."""
    rank: int = 1
    """Of its priority, see :data:`nexus.domain.priorities.RANKS`."""
    tokens: int = 1
    """The estimated tokens of its prompt and its answer together."""
    size_bytes: int = 0
    """The size of its body, which is kept in memory."""
    model: str = ""
    """The model it asks for, after aliases."""
    kind: Hashable = None
    """All that routing knows of it except its size and its client: what holds for one request of a kind holds for
    all."""


class Given(msgspec.Struct, Generic[T]):
    """A request got what it waited for."""

    thing: T
    backend: str
    """The backend whose slot it took."""
    has_room: bool = False
    """Whether that backend may have another free slot."""


class Unmet(msgspec.Struct, frozen=True):
    """A request has to wait, for a slot of any of these backends."""

    backends: frozenset[str]
    is_general: bool = True
    """Whether the same holds for all requests of its kind, so that the others need not try."""
    retry_in_s: float | None = None
    """When to try again even if no slot becomes free; None: a freed slot or a change of the fleet will wake it."""
