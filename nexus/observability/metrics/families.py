"""A metric with all its series, ready to be written."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, Literal

import msgspec

from nexus.observability.metrics.histogram import Histogram

Kind = Literal["counter", "gauge", "histogram"]
Across = Literal["sum", "max", "min", "same", "each"]
"""How the series of several workers become one: added up; the largest or the smallest; those of one worker, because all
know the same; or none do, and each has a label with the number of its worker."""


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
    across: Across = "sum"


Row = tuple[tuple[str, ...], float | Histogram]
"""The value of each label, and the value of the series."""

UNLABELLED: Final[tuple[str, ...]] = ()


Values = float | Mapping[tuple[str, ...], float] | Iterator[Row]
"""Of all series of a metric."""


def counter(name: str, documentation: str, counts: Values, *labels: str, across: Across = "sum") -> Family:
    """Return a counter; with *labels*, one series for each combination of their values."""
    return Family(name, "counter", documentation, labels, _rows(counts), across)


def gauge(name: str, documentation: str, values: Values, *labels: str, across: Across = "sum") -> Family:
    """Return a gauge; with *labels*, one series for each combination of their values."""
    return Family(name, "gauge", documentation, labels, _rows(values), across)


def histogram(
    name: str,
    documentation: str,
    histograms: Histogram | Mapping[tuple[str, ...], Histogram],
    *labels: str,
    across: Across = "sum",
) -> Family:
    """Return a histogram; with *labels*, one series for each combination of their values."""
    rows = [(UNLABELLED, histograms)] if isinstance(histograms, Histogram) else list(histograms.items())
    return Family(name, "histogram", documentation, labels, rows, across)


def _rows(values: Values) -> Iterable[Row]:
    if isinstance(values, Mapping):
        return list(values.items())
    return [(UNLABELLED, values)] if isinstance(values, int | float) else values
