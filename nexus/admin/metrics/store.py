"""Metrics of the store."""

from collections.abc import Iterator

from nexus.observability.metrics.families import Family, counter, gauge
from nexus.store.watched import WatchedStore


def store_families(store: WatchedStore) -> Iterator[Family]:
    """Make the families of *store*."""
    yield gauge(
        "nexus_store_failed",
        "1 while the store failed when it was last used.",
        int(store.failure is not None),
        across="max",
    )
    yield counter("nexus_store_failures", "Calls of the store that failed.", store.failures_total)
