"""A metric with all that it has counted, as whoever knows it tells it: without a registry, and quick to write out."""

from collections.abc import Mapping, Sequence
from typing import Final, Literal

import msgspec

from nexus.observability.metrics.histogram import Histogram

Kind = Literal["counter", "gauge", "histogram"]


class Family(msgspec.Struct, frozen=True):
    """One metric."""

    name: str
    """Without the ``_total`` that counters get."""
    kind: Kind
    documentation: str
    """One sentence."""
    labels: tuple[str, ...] = ()
    rows: "Sequence[Row]" = ()
    """A copy: the page is written in turns, and requests go on between them."""


Row = tuple[tuple[str, ...], float | Histogram]
"""The value of each label, and what was counted."""

UNLABELLED: Final[tuple[str, ...]] = ()


def counter(name: str, documentation: str, counts: float | Mapping[tuple[str, ...], float], *labels: str) -> Family:
    """Return a counter; with *labels*, one value for each of their values."""
    return Family(name, "counter", documentation, labels, _rows(counts))


def gauge(name: str, documentation: str, values: float | Mapping[tuple[str, ...], float], *labels: str) -> Family:
    """Return a gauge; with *labels*, one value for each of their values."""
    return Family(name, "gauge", documentation, labels, _rows(values))


def histogram(
    name: str, documentation: str, histograms: Histogram | Mapping[tuple[str, ...], Histogram], *labels: str
) -> Family:
    """Return a histogram; with *labels*, one for each of their values."""
    rows = [(UNLABELLED, histograms)] if isinstance(histograms, Histogram) else list(histograms.items())
    return Family(name, "histogram", documentation, labels, rows)


def _rows(values: float | Mapping[tuple[str, ...], float]) -> list[Row]:
    return list(values.items()) if isinstance(values, Mapping) else [(UNLABELLED, values)]
