"""Chooses the format of ``/metrics`` by the weights of ``Accept`` (RFC 9110, 12.5.1)."""

from collections.abc import Iterator
from typing import Final

import msgspec

TEXT: Final = "text/plain"
OPENMETRICS: Final = "application/openmetrics-text"

_VERSIONS: Final = {TEXT: ("", "0.0.4", "1.0.0"), OPENMETRICS: ("", "1.0.0")}
"""The versions of each format that the page conforms to."""


class _Range(msgspec.Struct, frozen=True):
    """One media range of ``Accept``."""

    type: str
    version: str
    weight: float


def wants_openmetrics(accept: str) -> bool:
    """Whether *accept* prefers OpenMetrics, or names it without preferring the text format.

    A client that accepts neither gets the text format rather than an error.
    """
    ranges = tuple(each for each in _ranges(accept) if each.version in _VERSIONS.get(each.type, (each.version,)))
    openmetrics, text = _weight(OPENMETRICS, ranges), _weight(TEXT, ranges)
    if openmetrics == text:
        return openmetrics > 0 and any(each.type == OPENMETRICS for each in ranges)
    return openmetrics > text


def _ranges(accept: str) -> Iterator[_Range]:
    for each in accept.split(","):
        type_, *rest = each.split(";")
        parameters = {name.strip().lower(): value.strip(' \t"') for name, _, value in (p.partition("=") for p in rest)}
        yield _Range(type_.strip().lower(), parameters.get("version", ""), _parsed(parameters.get("q", "1")))


def _weight(type_: str, ranges: tuple[_Range, ...]) -> float:
    """Return the weight of *type_*; the most specific range counts."""
    for wanted in (type_, f"{type_.partition('/')[0]}/*", "*/*"):
        weights = [each.weight for each in ranges if each.type == wanted]
        if weights:
            return max(weights)
    return 0.0


def _parsed(weight: str) -> float:
    """Return a weight from 0 to 1; an invalid one counts as 1, the default."""
    try:
        number = float(weight)
    except ValueError:
        return 1.0
    return number if 0.0 <= number <= 1.0 else 1.0
