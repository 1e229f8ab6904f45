"""Writes families as text for Prometheus, in its own format or in OpenMetrics: thousands of series in milliseconds.

The encoders of Prometheus's client library look at each character of each name by itself, which a fleet of a hundred
backends with twenty models each would notice.
"""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import accumulate
from typing import Final

from nexus.observability.metrics.families import Family
from nexus.observability.metrics.histogram import Exemplar, Histogram, TracedHistogram

ROWS_AT_ONCE: Final = 50
MOST_EXEMPLAR_CHARACTERS: Final = 128
"""Of all names and values of an exemplar together, as OpenMetrics wants it."""


def pieces(families: Iterable[Family], *, is_openmetrics: bool) -> Iterator[bytes]:
    """Yield the text of *families*, without the mark of the end, in pieces of a fraction of a millisecond each."""
    for family in families:
        writer = _Writer(family, is_openmetrics=is_openmetrics)
        yield writer.head().encode()
        for start in range(0, len(family.rows), ROWS_AT_ONCE):
            lines = [writer.lines(*row) for row in family.rows[start : start + ROWS_AT_ONCE]]
            # Names come from servers that nobody checked.
            yield "".join(lines).encode(errors="replace")


class _Writer:
    """Writes one family."""

    def __init__(self, family: Family, *, is_openmetrics: bool) -> None:
        self._family = family
        self._is_openmetrics = is_openmetrics
        self._sample = f"{family.name}_total" if family.kind == "counter" else family.name
        self._labels = ",".join(f'{label}="%s"' for label in family.labels)

    def head(self) -> str:
        family = self._family
        name = family.name if self._is_openmetrics else self._sample
        return f"# HELP {name} {family.documentation}\n# TYPE {name} {family.kind}\n"

    def lines(self, values: tuple[str, ...], counted: float | Histogram) -> str:
        labels = _label_text(self._labels, values)
        if isinstance(counted, Histogram):
            return self._of_histogram(labels, counted)
        return f"{self._sample}{{{labels}}} {counted}\n" if labels else f"{self._sample} {counted}\n"

    def _of_histogram(self, labels: str, counted: Histogram) -> str:
        template = _template(self._sample, tuple(counted.bounds), has_labels=bool(labels))
        totals = tuple(accumulate(counted.counts))
        text = template.replace(_LABELS, labels.replace("%", "%%")) % (*totals, totals[-1], counted.sum)
        if not self._is_openmetrics or not isinstance(counted, TracedHistogram):
            return text
        lines = text.split("\n")
        for bucket, exemplar in enumerate(counted.exemplars):
            if exemplar is not None:
                lines[bucket] += _exemplar(exemplar)
        return "\n".join(lines)


_LABELS: Final = "\0"
"""Stands in a template where the labels of a row belong; in no name."""


@lru_cache(maxsize=64)
def _template(name: str, bounds: tuple[float, ...], *, has_labels: bool) -> str:
    before, alone = (f"{_LABELS},", f"{{{_LABELS}}}") if has_labels else ("", "")
    buckets = [f'{name}_bucket{{{before}le="{bound}"}} %s\n' for bound in (*bounds, "+Inf")]
    return "".join((*buckets, f"{name}_count{alone} %s\n", f"{name}_sum{alone} %s\n"))


@lru_cache(maxsize=16_384)
def _label_text(template: str, values: tuple[str, ...]) -> str:
    return template % tuple(map(_escaped, values))


def _exemplar(exemplar: Exemplar) -> str:
    request_id, value, at_unix_s = exemplar
    # Clients may choose the id, and not every parser understands an escape in an exemplar.
    if len("request_id") + len(request_id) > MOST_EXEMPLAR_CHARACTERS or _escaped(request_id) != request_id:
        return ""
    return f' # {{request_id="{request_id}"}} {value} {at_unix_s:.3f}'


def _escaped(value: str) -> str:
    if "\\" in value or '"' in value or "\n" in value:
        return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
    return value
