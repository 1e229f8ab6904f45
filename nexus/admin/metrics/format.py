"""In which format the page for Prometheus is wanted: the weights of ``Accept``, as RFC 9110 (12.5.1) has them."""

from collections.abc import Iterator
from typing import Final

import msgspec

TEXT: Final = "text/plain"
OPENMETRICS: Final = "application/openmetrics-text"

_VERSIONS: Final = {TEXT: ("", "0.0.4", "1.0.0"), OPENMETRICS: ("", "1.0.0")}
"""Of each format, those that what is written passes for."""


class _Range(msgspec.Struct, frozen=True):
    """One of the ranges of types that a client accepts."""

    type: str
    version: str
    weight: float


def wants_openmetrics(accept: str) -> bool:
    """Whether OpenMetrics is to be written: it is named, or the text format is not accepted while OpenMetrics is.

    Who accepts neither gets the text format: any answer says more than none.
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
    """Return how much *type_* is wanted: the range that says most of it counts."""
    for wanted in (type_, f"{type_.partition('/')[0]}/*", "*/*"):
        weights = [each.weight for each in ranges if each.type == wanted]
        if weights:
            return max(weights)
    return 0.0


def _parsed(weight: str) -> float:
    """Return a weight from 0 to 1; one that is none is overlooked, as if the client had not given it."""
    try:
        number = float(weight)
    except ValueError:
        return 1.0
    return number if 0.0 <= number <= 1.0 else 1.0
