"""Writes metric families as text, in Prometheus's own format or in OpenMetrics.

The encoders of ``prometheus_client`` write the whole page in one call and scan each character of each name. With a
hundred backends of twenty models each, that would block the event loop, so this module yields the page in pieces.
"""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import accumulate, islice
from typing import Final

from nexus.observability.metrics.families import Family, Row
from nexus.observability.metrics.histogram import Exemplar, Histogram, TracedHistogram

ROWS_AT_ONCE: Final = 20
MAX_EXEMPLAR_CHARACTERS: Final = 128
"""OpenMetrics's limit for the names and values of an exemplar together."""


def pieces(families: Iterable[Family], *, is_openmetrics: bool) -> Iterator[bytes]:
    """Yield the text of *families* in pieces, each of which takes a fraction of a millisecond."""
    for family in families:
        writer = _Writer(family, is_openmetrics=is_openmetrics)
        # Names and descriptions come from servers and plugins, and may hold surrogates, which UTF-8 cannot encode.
        yield writer.head().encode(errors="replace")
        for rows in chunks(family.rows):
            yield "".join([writer.lines(*row) for row in rows]).encode(errors="replace")


def chunks(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Yield *rows* in lists that take a fraction of a millisecond each."""
    left = iter(rows)
    while chunk := list(islice(left, ROWS_AT_ONCE)):
        yield chunk


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
        documentation = family.documentation.replace("\\", "\\\\").replace("\n", "\\n")
        if self._is_openmetrics:
            documentation = documentation.replace('"', '\\"')
        return f"# HELP {name} {documentation}\n# TYPE {name} {family.kind}\n"

    def lines(self, values: tuple[str, ...], counted: float | Histogram) -> str:
        labels = _label_text(self._labels, values)
        if isinstance(counted, Histogram):
            return self._of_histogram(labels, counted)
        number = str(counted)
        number = _NOT_FINITE.get(number, number)
        return f"{self._sample}{{{labels}}} {number}\n" if labels else f"{self._sample} {number}\n"

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


_NOT_FINITE: Final = {"nan": "NaN", "inf": "+Inf", "-inf": "-Inf"}
_LABELS: Final = "\0"
"""Marks the place of a row's labels in a template; no name holds it."""


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
    # Clients may choose the id, and not every parser supports escapes in an exemplar.
    if len("request_id") + len(request_id) > MAX_EXEMPLAR_CHARACTERS or _escaped(request_id) != request_id:
        return ""
    return f' # {{request_id="{request_id}"}} {value} {at_unix_s:.3f}'


def _escaped(value: str) -> str:
    if "\\" in value or '"' in value or "\n" in value:
        return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
    return value
