"""What Nexus promises of its own speed and size, and whether it keeps that."""

from collections.abc import Mapping
from typing import Final

import msgspec

from comparing.figures import Figure, Measured
from comparing.proxies import NEXUS

NOISE: Final = 0.10
"""By how much a figure may miss its limit before that counts as broken: so much do runs differ on shared machines."""


class Threshold(msgspec.Struct, frozen=True):
    """A limit of one figure of Nexus."""

    figure: Figure
    limit: float
    against: str | None = None
    """The neighbour whose figure the limit is multiplied with; None: it is absolute."""

    @property
    def text(self) -> str:
        if self.against is None:
            return f"at most {self.limit:g}"
        return f"at most {self.limit:g} x {self.against}'s"


THRESHOLDS: Final = (
    Threshold(Figure.CPU_PER_REQUEST, 1.1, "vllm-router"),
    Threshold(Figure.CPU_PER_EVENT, 1.2, "nginx"),
    Threshold(Figure.P99_OVER_UNLOGGED, 1.2),
    Threshold(Figure.RSS_AT_REST, 60.0),
    Threshold(Figure.FAILED, 0.0),
    Threshold(Figure.LOST_STREAMS, 0.0),
)


class Verdict(msgspec.Struct, frozen=True):
    """What became of one threshold."""

    threshold: Threshold
    found: float | None
    """The ratio or the value; None when the neighbour is not installed."""

    @property
    def is_kept(self) -> bool:
        return self.found is None or self.found <= self.threshold.limit

    @property
    def is_broken(self) -> bool:
        """Whether it is missed by more than noise."""
        return self.found is not None and self.found > self.threshold.limit * (1 + NOISE)

    @property
    def text(self) -> str:
        if self.found is None:
            return "not measured"
        unit = "" if self.threshold.against is None else " x"
        found = f"{self.found:.2f}{unit}" if unit else self.threshold.figure.show(self.found)
        if self.is_kept:
            return f"{found}: kept"
        return f"{found}: broken" if self.is_broken else f"{found}: missed, by less than {NOISE:.0%}"


def judge(measured: Mapping[str, Measured]) -> list[Verdict]:
    """Compare what was measured with every threshold."""
    return [Verdict(threshold, _found(threshold, measured)) for threshold in THRESHOLDS]


def _found(threshold: Threshold, measured: Mapping[str, Measured]) -> float | None:
    nexus = measured[NEXUS]
    if threshold.against is None:
        return nexus.value(threshold.figure)
    neighbour = measured.get(threshold.against)
    return nexus.ratio(threshold.figure, neighbour) if neighbour is not None else None
