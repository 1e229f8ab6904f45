"""The metrics of the stage, and its row in ``/v1/stats``."""

from collections.abc import Mapping
from typing import Any

from nexus.api import Measure, Sample
from nexus_affinity.caches import ENTRY_BYTES
from nexus_affinity.fleet_caches import FleetCaches


def affinity_measures(caches: FleetCaches) -> list[Measure]:
    """Return what the caches are expected to have held, and how much of each is remembered."""
    rows = [({"backend": caches.names[id_]}, cache) for id_, cache in caches.caches.items()]
    return [
        _total("requests", "Requests with a prompt or a conversation that were sent.", caches.requests_total),
        _total("hits", "Of these, those with a part of the prompt in the cache, as expected.", caches.hits_total),
        _total("prompt_blocks", "Blocks of these prompts, of 1 KiB.", caches.blocks_total),
        _total("cached_blocks", "Of these, those that were in the cache, as expected.", caches.found_total),
        Measure(
            name="nexus_affinity_entries",
            documentation="Blocks that are expected in the cache of a backend.",
            type="gauge",
            across="sum",
            samples=tuple(Sample(cache.blocks, labels) for labels, cache in rows),
        ),
        Measure(
            name="nexus_affinity_bytes",
            documentation="Memory in which they are remembered, about.",
            type="gauge",
            across="sum",
            samples=tuple(Sample(cache.blocks * ENTRY_BYTES, labels) for labels, cache in rows),
        ),
        Measure(
            name="nexus_affinity_evictions",
            documentation="Blocks, or prompts of slots, that gave way to others.",
            type="counter",
            samples=tuple(Sample(cache.evictions_total, labels) for labels, cache in rows),
        ),
    ]


def affinity_report(caches: FleetCaches) -> Mapping[str, Any]:
    """Return how much of all prompts was expected to be cached."""
    share = caches.found_total / caches.blocks_total if caches.blocks_total else 0.0
    return {"requests": caches.requests_total, "cached_share": round(share, 3)}


def _total(name: str, meaning: str, value: int) -> Measure:
    return Measure(name=f"nexus_affinity_{name}", documentation=meaning, type="counter", samples=(Sample(value),))
