"""Counts the results and the latencies of the probes of each backend."""

from collections import defaultdict
from typing import Final

from nexus.fleet.probing.result import Failure, ProbeResult, SuccessWithParseError
from nexus.observability.metrics.histogram import DURATION_BUCKETS_S, Histogram

MAX_BACKENDS: Final = 1_000
"""Backends that are counted; beyond that, the oldest is forgotten."""


class ProbeCounts:
    """By the name of the backend, so that the counts continue when it comes back."""

    def __init__(self) -> None:
        self.latencies: dict[str, Histogram] = {}
        """Of successful probes, in seconds."""
        self.results: dict[str, dict[str, int]] = {}
        """How many were a ``success``, ``unreadable`` or a ``failure``."""

    def note(self, backend: str, result: ProbeResult) -> None:
        """Count one probe."""
        results = self.results.get(backend)
        if results is None:
            if len(self.results) >= MAX_BACKENDS:
                first = next(iter(self.results))
                del self.results[first]
                self.latencies.pop(first, None)
            results = self.results[backend] = defaultdict(int)
        if isinstance(result, Failure):
            results["failure"] += 1
            return
        results["unreadable" if isinstance(result, SuccessWithParseError) else "success"] += 1
        latency = self.latencies.get(backend)
        if latency is None:
            latency = self.latencies[backend] = Histogram(DURATION_BUCKETS_S)
        latency.observe(result.latency_ms / 1000)
