"""A figure that Prometheus is told, as whoever knows it gives it: without a registry, without state."""

from collections.abc import Mapping
from typing import Literal

import msgspec


class Measure(msgspec.Struct, frozen=True, kw_only=True):
    """One metric with all its samples."""

    name: str
    """Without the ``_total`` that counters get."""
    documentation: str
    """One sentence, with the unit."""
    type: Literal["counter", "gauge"]
    samples: tuple["Sample", ...]


class Sample(msgspec.Struct, frozen=True):
    """One value of a metric."""

    value: float
    labels: Mapping[str, str] = {}
    """The same keys in all samples of one metric."""
