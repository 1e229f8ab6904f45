"""What has come of the pipeline and of its stages so far: plain numbers, which outlive reloads."""

from collections import defaultdict
from typing import Final, Literal

from nexus.observability.metrics.histogram import Histogram

Part = Literal["reconcile", "reserve", "settle", "headers", "listen", "cost", "explain", "measures", "report"]
"""What a stage can fail at."""

BUCKETS_S: Final = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01)


class StageTally:
    """Of one stage."""

    __slots__ = ("durations", "exclusions_total", "failures", "observed", "slow")

    def __init__(self) -> None:
        self.durations = Histogram(BUCKETS_S)
        """Of its part in the pipeline, for each request."""
        self.exclusions_total = 0
        self.failures: dict[Part, int] = defaultdict(int)
        self.slow: dict[Part, int] = defaultdict(int)
        self.observed: dict[str, int] = defaultdict(int)
        """What it would have said while it only observes: how often it would have excluded, avoided, weighed."""


class PipelineTally:
    """Of the whole pipeline."""

    __slots__ = ("durations", "stages")

    def __init__(self) -> None:
        self.durations = Histogram(BUCKETS_S)
        self.stages: dict[str, StageTally] = {}
        """By name, of each stage that there is or was: what a reload takes out and brings back goes on from there."""
