"""What is measured: each figure's name, unit and meaning, and how several rounds become one."""

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Final

import msgspec

from comparing.spread import Spread, spread_of


class Figure(Enum):
    """A column of the results: its title and the format of its values."""

    CPU_PER_PACED_EVENT = "CPU per paced event, µs", ".1f"
    DELAY_P50 = "delay of a paced event, p50, ms", ".3f"
    DELAY_P99 = "delay of a paced event, p99, ms", ".3f"
    CPU_PER_REQUEST = "CPU per request, µs", ".0f"
    REQUESTS_PER_S = "requests per second", ",.0f"
    RATE_IN_TIME = "requests per second with a p99 of at most 5 ms", ",.0f"
    P50 = "one request at a time, p50, ms", ".3f"
    P99 = "one request at a time, p99, ms", ".3f"
    ADDED_P50 = "added to the p50, ms", ".3f"
    ADDED_P99 = "added to the p99, ms", ".3f"
    P99_UNLOGGED = "p99 without access lines, ms", ".3f"
    P50_OVER_UNLOGGED = "p50 with access lines, over p50 without", ".2f"
    P99_OVER_UNLOGGED = "p99 with access lines, over p99 without", ".2f"
    ADDED_BY_PLUGINS = "what plugins that are not configured add to a request, µs", ".1f"
    CPU_PER_EVENT = "CPU per event of a burst, µs", ".2f"
    EVENTS_PER_S = "events per second", ",.0f"
    FIRST_EVENT_P50 = "first event, p50, ms", ".3f"
    FIRST_EVENT_P99 = "first event, p99, ms", ".3f"
    CPU_PER_AGENT_REQUEST = "CPU per agent request, µs", ".0f"
    CPU_PER_IMAGE = "CPU per request with an image, µs", ".0f"
    CPU_PER_EMBEDDINGS = "CPU per answer with embeddings, µs", ".0f"
    START_UP = "start to first answer, ms", ",.0f"
    RSS_AT_REST = "RSS at rest, two backends, MiB", ".1f"
    RSS_HELD = "RSS with 1 000 idle streams, MiB", ".1f"
    RSS_PER_STREAM = "memory per idle stream, KiB", ".1f"
    RSS_AFTER_LOAD = "RSS after the load, MiB", ".1f"
    RSS_STALLED = "RSS while 200 clients stall, MiB", ".1f"
    RSS_AFTER_STALL = "RSS after they have left, MiB", ".1f"
    RSS_LATER = "RSS within 60 s, MiB", ".1f"
    DECISION_2 = "a decision, 2 backends x 20 models, µs", ".1f"
    DECISION_20 = "a decision, 20 backends x 20 models, µs", ".1f"
    DECISION_100 = "a decision, 100 backends x 20 models, µs", ".1f"
    DECISION_LONG = "the same with a long prompt for affinity, µs", ".1f"
    STATS_PAGE = "/v1/stats at 100 backends x 20 models, ms", ".2f"
    METRICS_STEP = "longest step of /metrics, ms", ".2f"
    METRICS_SIZE = "size of /metrics, MB", ".2f"
    FAILED = "failed requests", ",.0f"
    LOST_STREAMS = "idle streams lost", ",.0f"
    ACCESS_LINES = "access lines per request", ".3f"

    def __init__(self, title: str, form: str) -> None:
        self.title = title
        self.form = form

    def show(self, value: float) -> str:
        """Return *value* as the tables show it."""
        return format(value, self.form).replace(",", " ")


Round = Mapping[Figure, float]
"""The figures of one proxy in one round."""

ADDED_UP: Final = frozenset({Figure.FAILED, Figure.LOST_STREAMS})
"""Of these, every single one counts."""


class Measured(msgspec.Struct, frozen=True):
    """All rounds of one proxy."""

    name: str
    version: str
    rounds: Sequence[Round]

    def value(self, figure: Figure) -> Spread | None:
        """Return the median over the rounds, or their sum where every one counts; None when it was not measured."""
        values = [one[figure] for one in self.rounds if figure in one]
        if not values:
            return None
        return spread_of([sum(values)] if figure in ADDED_UP else values)

    def ratio(self, figure: Figure, other: "Measured") -> Spread | None:
        """Return the median over the rounds of the ratio to *other* in the same round.

        What disturbs the machine for longer than a round disturbs both, and does not show.
        """
        pairs = [
            (mine[figure], theirs[figure])
            for mine, theirs in zip(self.rounds, other.rounds, strict=True)
            if figure in mine and figure in theirs
        ]
        ratios = [mine / theirs for mine, theirs in pairs if theirs]
        return spread_of(ratios) if ratios else None
