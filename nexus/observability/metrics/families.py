"""A metric with all its series, ready to be written."""

from collections.abc import Mapping, Sequence
from typing import Final, Literal

import msgspec

from nexus.observability.metrics.histogram import Histogram

Kind = Literal["counter", "gauge", "histogram"]


class Family(msgspec.Struct, frozen=True):
    """One metric."""

    name: str
    """Without the ``_total`` of counters."""
    kind: Kind
    documentation: str
    """One sentence."""
    labels: tuple[str, ...] = ()
    rows: "Sequence[Row]" = ()
    """A copy, because requests continue while the page is written."""


Row = tuple[tuple[str, ...], float | Histogram]
"""The value of each label, and the value of the series."""

UNLABELLED: Final[tuple[str, ...]] = ()


def counter(name: str, documentation: str, counts: float | Mapping[tuple[str, ...], float], *labels: str) -> Family:
    """Return a counter; with *labels*, one series for each combination of their values."""
    return Family(name, "counter", documentation, labels, _rows(counts))


def gauge(name: str, documentation: str, values: float | Mapping[tuple[str, ...], float], *labels: str) -> Family:
    """Return a gauge; with *labels*, one series for each combination of their values."""
    return Family(name, "gauge", documentation, labels, _rows(values))


def histogram(
    name: str, documentation: str, histograms: Histogram | Mapping[tuple[str, ...], Histogram], *labels: str
) -> Family:
    """Return a histogram; with *labels*, one series for each combination of their values."""
    rows = [(UNLABELLED, histograms)] if isinstance(histograms, Histogram) else list(histograms.items())
    return Family(name, "histogram", documentation, labels, rows)


def _rows(values: float | Mapping[tuple[str, ...], float]) -> list[Row]:
    return list(values.items()) if isinstance(values, Mapping) else [(UNLABELLED, values)]
