"""Counters of the pipeline and its stages, which continue across reloads."""

from collections import defaultdict
from typing import Final, Literal

from nexus.observability.metrics.histogram import Histogram

StageCall = Literal[
    "reconcile",
    "reserve",
    "begin_answer",
    "settle",
    "headers",
    "listen",
    "cost",
    "declare",
    "count",
    "explain",
    "measures",
    "report",
]
"""What a stage is called for, and can fail at."""

BUCKETS_S: Final = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01)


class StageCounters:
    """The counters of one stage."""

    __slots__ = ("durations", "exclusions_total", "failures", "observed", "slow")

    def __init__(self) -> None:
        self.durations = Histogram(BUCKETS_S)
        """How long it took for each request."""
        self.exclusions_total = 0
        self.failures: dict[StageCall, int] = defaultdict(int)
        self.slow: dict[StageCall, int] = defaultdict(int)
        self.observed: dict[str, int] = defaultdict(int)
        """By verb, the verdicts of a stage that only observes."""


class PipelineCounters:
    """The counters of the whole pipeline."""

    __slots__ = ("durations", "stages")

    def __init__(self) -> None:
        self.durations = Histogram(BUCKETS_S)
        self.stages: dict[str, StageCounters] = {}
        """By name, including stages that a reload has removed: one that comes back continues its counters."""
