"""A metric with all its series, ready to be written."""

from collections.abc import Iterable, Iterator, Mapping
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
    rows: "Iterable[Row]" = ()
    """To be iterated over once, in turns with other tasks: requests continue meanwhile, so these are copies, or made of
    copies one after the other."""


Row = tuple[tuple[str, ...], float | Histogram]
"""The value of each label, and the value of the series."""

UNLABELLED: Final[tuple[str, ...]] = ()


Values = float | Mapping[tuple[str, ...], float] | Iterator[Row]
"""Of all series of a metric."""


def counter(name: str, documentation: str, counts: Values, *labels: str) -> Family:
    """Return a counter; with *labels*, one series for each combination of their values."""
    return Family(name, "counter", documentation, labels, _rows(counts))


def gauge(name: str, documentation: str, values: Values, *labels: str) -> Family:
    """Return a gauge; with *labels*, one series for each combination of their values."""
    return Family(name, "gauge", documentation, labels, _rows(values))


def histogram(
    name: str, documentation: str, histograms: Histogram | Mapping[tuple[str, ...], Histogram], *labels: str
) -> Family:
    """Return a histogram; with *labels*, one series for each combination of their values."""
    rows = [(UNLABELLED, histograms)] if isinstance(histograms, Histogram) else list(histograms.items())
    return Family(name, "histogram", documentation, labels, rows)


def _rows(values: Values) -> Iterable[Row]:
    if isinstance(values, Mapping):
        return list(values.items())
    return [(UNLABELLED, values)] if isinstance(values, int | float) else values
