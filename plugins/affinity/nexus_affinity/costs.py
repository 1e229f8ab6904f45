"""What a request costs each backend: the prompts to read there before its answer can begin, and the requests there.

The unit is a block of a prompt. The weights are from a simulation of real traces, whose figures are in
``docs/reference/performance.rst`` of Nexus; halving or doubling one of them changes little.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from nexus.api import Backend
from nexus_affinity.caches import BackendCache

UNREAD_WEIGHT: Final = 0.15
"""Of a block that the backend has yet to read for others. With 1, the time to the first token would be as short, and a
tenth of what could be found in caches would not be, since conversations would move whenever their backend is busy."""
REQUEST_BLOCKS: Final = 1.0
REQUEST_SHARE: Final = 0.1
"""The cost of each request in flight, which slows down all others: a block, and this share of the prompt. So a cached
prompt outweighs at most ten requests; without the share, one prompt that all send would go to one backend."""
RECENT_BLOCKS: Final = 0.25
RECENT_SHARE: Final = 0.1
MAX_RECENT: Final = 3.0
"""The cost of a backend that has got as many requests as the mean lately: a quarter of a block, and this share of the
prompt. It grows up to three times the mean. So, of backends that are idle, the one with fewer requests gets the next
conversation, even if another one has the instructions in its cache with which all conversations begin."""
CONVERSATION_BLOCKS: Final = 0.75
"""The advantage of the backend that had the last request of the conversation: less than a request in flight."""


MIN_FACTOR: Final = 0.06
"""Of a score: just more than the core leaves to a backend that is silent or too busy for probes; that comes last."""


class Cost(msgspec.Struct, frozen=True, gc=False):
    """What one request costs one backend."""

    backend: Backend
    cached: int
    """The blocks of its prompt in the cache."""
    busy: float
    """Requests in flight there, relative to its share of the work."""
    unread: float
    """Blocks that it has yet to read for others, relative to its share."""
    blocks: float
    """The cost, more than 0."""


class Prompt(msgspec.Struct, frozen=True, gc=False):
    """What is known of the prompt of a request."""

    total: int
    """Its blocks."""
    depths: Mapping[int, int]
    """How many of them a cache holds, by its bit; those that hold none are left out."""
    shared: int
    """The first blocks that many other prompts have as well."""
    last: str | None
    """The id of the backend that had the last request of the conversation; None if it is not known."""


def costs(candidates: Sequence[tuple[Backend, BackendCache | None]], prompt: Prompt, now: float) -> list[Cost]:
    """Return what a request with *prompt* costs each candidate.

    :param candidates: each with its cache.
    """
    depths, total, last, common = prompt.depths, prompt.total, prompt.last, prompt.shared
    if depths:
        common = max(common, widely_held([0 if c is None else depths.get(c.bit, 0) for _, c in candidates]))
    recents = [0.0 if cache is None else cache.recent / backend.share for backend, cache in candidates]
    mean = sum(recents) / len(recents) or 1.0
    each_recent = RECENT_BLOCKS + RECENT_SHARE * total
    each_request = REQUEST_BLOCKS + REQUEST_SHARE * total
    found: list[Cost] = []
    for (backend, cache), recent in zip(candidates, recents, strict=True):
        load, share = backend.load, backend.share
        in_flight: float = load.everywhere
        if load.told is not None:
            in_flight += round(load.other_requests(now), 1)
        depth = depths.get(cache.bit, 0) if depths and cache is not None else 0
        cached = depth if depth and not _is_taken(backend) else 0
        blocks = 1.0 + total - (cached if cached > common else common)  # noqa: FURB136 - max() takes longer
        unread = 0.0
        if cache is not None:
            unread = cache.unread / share
            blocks += UNREAD_WEIGHT * unread + each_recent * (
                recent / mean if recent < MAX_RECENT * mean else MAX_RECENT
            )
        busy = in_flight if share == 1.0 else round(in_flight / share, 2)
        blocks += each_request * busy
        if last is not None and backend.id == last:
            blocks -= CONVERSATION_BLOCKS
        found.append(Cost(backend, cached, busy, unread, blocks))
    return found


def factor(lowest: float, blocks: float) -> float:
    """Return by what a backend with a cost of *blocks* is weighed.

    It is squared, because scores count load as well: the plain ratio moved conversations whose backend had but a few
    requests in flight, and found a hundredth less in caches.

    :param lowest: the cost of the cheapest backend.
    """
    return MIN_FACTOR + (1.0 - MIN_FACTOR) * (lowest / blocks) ** 2


def widely_held(depths: Sequence[int]) -> int:
    """Return how many blocks at least half of the candidates hold, and at least two of them.

    They carry no preference: they are instructions that many requests share, and soon all will hold them.
    """
    needed = max(2, (len(depths) + 1) // 2)
    return sorted(depths, reverse=True)[needed - 1] if needed <= len(depths) else 0


def _is_taken(backend: Backend) -> bool:
    """Whether all slots are in use, so that the request would get the first that is free, whatever that has cached."""
    return backend.kind.caches_by_slot and backend.slots is not None and backend.load.everywhere >= backend.slots
