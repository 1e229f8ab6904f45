"""What Nexus promises of its own speed and size, and whether it keeps that."""

from collections.abc import Mapping
from typing import Final

import msgspec

from comparing.figures import Figure, Measured
from comparing.proxies import NEXUS
from comparing.spread import Spread


class Limit(msgspec.Struct, frozen=True):
    """The most that a figure may be."""

    value: float
    against: str | None = None
    """The neighbour whose figure the value is multiplied with; None: it is absolute."""

    @property
    def text(self) -> str:
        return f"at most {self.value:g}" if self.against is None else f"at most {self.value:g} x {self.against}'s"

    def found(self, figure: Figure, measured: Mapping[str, Measured]) -> Spread | None:
        """Return the value or the ratio that it is compared with; None when that was not measured."""
        nexus = measured[NEXUS]
        if self.against is None:
            return nexus.value(figure)
        neighbour = measured.get(self.against)
        return nexus.ratio(figure, neighbour) if neighbour is not None else None


class Threshold(msgspec.Struct, frozen=True):
    """A limit of one figure of Nexus, and what is aimed at beyond it."""

    figure: Figure
    limit: Limit
    goal: Limit | None = None
    """Missing it breaks nothing."""


THRESHOLDS: Final = (
    Threshold(Figure.CPU_PER_REQUEST, Limit(1.3, "vllm-router"), Limit(1.15, "vllm-router")),
    Threshold(Figure.P99, Limit(1.2, "vllm-router"), Limit(1.0, "vllm-router")),
    Threshold(Figure.CPU_PER_PACED_EVENT, Limit(1.15, "vllm-router"), Limit(1.0, "vllm-router")),
    Threshold(Figure.DELAY_P99, Limit(1.2, "vllm-router"), Limit(2.0, "nginx")),
    Threshold(Figure.CPU_PER_AGENT_REQUEST, Limit(1.3, "vllm-router"), Limit(1.1, "vllm-router")),
    Threshold(Figure.ADDED_BY_PLUGINS, Limit(5.0), Limit(0.0)),
    Threshold(Figure.DECISION_100, Limit(60.0), Limit(30.0)),
    Threshold(Figure.STATS_PAGE, Limit(2.0)),
    Threshold(Figure.METRICS_STEP, Limit(1.0)),
    Threshold(Figure.METRICS_SIZE, Limit(2.0)),
    Threshold(Figure.P99_OVER_UNLOGGED, Limit(1.2)),
    Threshold(Figure.RSS_AT_REST, Limit(70.0)),
    Threshold(Figure.RSS_LATER, Limit(100.0)),
    Threshold(Figure.FAILED, Limit(0.0)),
    Threshold(Figure.LOST_STREAMS, Limit(0.0)),
)


class Verdict(msgspec.Struct, frozen=True):
    """What became of one limit."""

    figure: Figure
    limit: Limit
    found: Spread | None
    """The ratio or the value; None when it, or the neighbour, was not measured."""

    @property
    def is_kept(self) -> bool:
        return self.found is None or self.found.middle <= self.limit.value

    @property
    def is_broken(self) -> bool:
        """Whether it is missed by more than the rounds differ."""
        return self.found is not None and self.found.low > self.limit.value

    @property
    def text(self) -> str:
        if self.found is None:
            return "not measured"
        if self.is_kept:
            return f"{self._shown}: kept"
        return f"{self._shown}: broken" if self.is_broken else f"{self._shown}: missed, but within the spread"

    @property
    def _shown(self) -> str:
        assert self.found is not None
        return show(self.figure, self.found, is_ratio=self.limit.against is not None)


def show(figure: Figure, spread: Spread, *, is_ratio: bool) -> str:
    """Return a median with its interval, when there is one."""
    middle, low, high = (
        f"{value:.2f}" if is_ratio else figure.show(value) for value in (spread.middle, spread.low, spread.high)
    )
    unit = " x" if is_ratio else ""
    return f"{middle}{unit}" if low == high else f"{middle}{unit}, {low} to {high}"


def judge(measured: Mapping[str, Measured]) -> list[tuple[Verdict, Verdict | None]]:
    """Compare what was measured with every threshold: its limit and, where there is one, its goal."""
    return [
        (
            _verdict(threshold.figure, threshold.limit, measured),
            None if threshold.goal is None else _verdict(threshold.figure, threshold.goal, measured),
        )
        for threshold in THRESHOLDS
    ]


def _verdict(figure: Figure, limit: Limit, measured: Mapping[str, Measured]) -> Verdict:
    return Verdict(figure, limit, limit.found(figure, measured))
