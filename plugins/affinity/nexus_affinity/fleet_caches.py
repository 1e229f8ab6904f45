"""The caches of all backends, which are created, resized and cleared as the fleet changes."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from nexus.api import PROMPT_BLOCK_BYTES, Backend, Breaker, FleetSnapshot
from nexus_affinity.caches import ENTRY_BYTES, BackendCache, BlockCache, SlotCache
from nexus_affinity.config import AffinityConfig
from nexus_affinity.index import PrefixIndex

BYTES_PER_TOKEN: Final = 4
"""As the core estimates tokens."""
RECENT_S: Final = 60.0
"""A request that was sent this much later counts twice."""
MAX_DOUBLINGS: Final = 64.0
MAX_CONVERSATIONS: Final = 16_384
"""Conversations whose last backend is remembered; beyond that, the least recently used is forgotten."""


class FleetCaches:
    """What is known of the caches of a fleet; it outlives reloads."""

    def __init__(self) -> None:
        self.index = PrefixIndex()
        self.caches: dict[str, BackendCache] = {}
        """By the id of the backend."""
        self.names: dict[str, str] = {}
        """Of these backends, by id."""
        self.conversations: OrderedDict[int, str] = OrderedDict()
        """By conversation, the id of the backend that had its last request."""
        self.blocks_total = 0
        """Of the prompts of requests that were sent."""
        self.found_total = 0
        """Of these, those that the backend is expected to have had in its cache."""
        self.requests_total = 0
        self.hits_total = 0
        """Requests of which the backend is expected to have had at least one block."""
        self._bases: dict[str, tuple[object, ...]] = {}
        """What the size of each cache follows from."""
        self._snapshot: FleetSnapshot | None = None
        self._counted_since = 0.0

    def follow(self, snapshot: FleetSnapshot) -> None:
        """Forget the caches of backends that have left the fleet, and of those whose breaker has opened."""
        if snapshot is self._snapshot:
            return
        self._snapshot = snapshot
        for id_, cache in list(self.caches.items()):
            backend = snapshot.by_id.get(id_)
            if backend is None:
                self._forget(id_)
            elif backend.own_breaker is Breaker.OPEN:
                cache.clear()

    def of(self, backend: Backend) -> BackendCache | None:
        """Return the cache of *backend*, which is empty if it has restarted; None before its first request."""
        cache = self.caches.get(backend.id)
        if cache is not None and cache.restarts != backend.load.restarts:
            self.restarted(backend, cache)
        return cache

    def restarted(self, backend: Backend, cache: BackendCache) -> None:
        """Forget what was in *cache* before *backend* restarted."""
        cache.restarts = backend.load.restarts
        cache.clear()

    def opened(self, backend: Backend, config: AffinityConfig) -> BackendCache:
        """Return the cache of *backend*, of the size that it has now."""
        cache, by_slot = self.of(backend), backend.kind.caches_by_slot
        basis = backend.load.told, backend.slots, by_slot, config
        if cache is not None and self._bases[backend.id] == basis:
            return cache
        size = size_of(backend, config)
        if cache is not None and isinstance(cache, SlotCache) is not by_slot:
            self._forget(backend.id)
            cache = None
        if cache is None:
            cache = (SlotCache if by_slot else BlockCache)(self.index, size)
            self.caches[backend.id] = cache
            self.names[backend.id] = backend.name
            cache.restarts = backend.load.restarts
        else:
            cache.resize(size)
        self._bases[backend.id] = basis
        return cache

    def count(self, cache: BackendCache, now: float) -> None:
        """Count a request that is sent to the backend of *cache*.

        Instead of letting all counts decay with time, later requests count more, as only their proportion matters.
        """
        doublings = (now - self._counted_since) / RECENT_S
        if doublings > MAX_DOUBLINGS:
            for other in self.caches.values():
                other.recent *= 2.0**-doublings
            self._counted_since, doublings = now, 0.0
        cache.recent += 2.0**doublings

    def note(self, blocks: Sequence[int], found: int, conversation: int, backend: Backend) -> None:
        """Count a request with *blocks* that is sent to *backend*, and remember its conversation."""
        self.requests_total += 1
        self.hits_total += found > 0
        self.blocks_total += len(blocks)
        self.found_total += found
        if conversation:
            self.conversations[conversation] = backend.id
            self.conversations.move_to_end(conversation)
            if len(self.conversations) > MAX_CONVERSATIONS:
                self.conversations.popitem(last=False)

    def _forget(self, id_: str) -> None:
        self.caches.pop(id_).close()
        del self.names[id_], self._bases[id_]


def size_of(backend: Backend, config: AffinityConfig) -> int:
    """Return how many prompts the cache of *backend* holds if it caches by slot, else how many blocks."""
    told = backend.load.told
    if backend.kind.caches_by_slot:
        return (told.slots if told is not None else None) or backend.slots or 1
    tokens = (told.cache_tokens if told is not None else None) or config.assumed_cache_tokens
    return max(1, min(tokens * BYTES_PER_TOKEN // PROMPT_BLOCK_BYTES, config.max_index_bytes // ENTRY_BYTES))
