"""Reads chosen metrics from a page in the text format of Prometheus."""

import math
import re
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

MAX_SAMPLES: Final = 500
"""Lines of all chosen metrics together; an engine has one for each metric and data-parallel rank."""
MAX_SAMPLE_BYTES: Final = 96 * 1024
"""Of these lines together. With ``MAX_SAMPLES``, it bounds the time that a page of a hostile server takes to 2 ms."""

_LABELS: Final = re.compile(rb'\{(?:[^"}\n]++|"(?:[^"\\\n]++|\\.)*+")*+\}')


class Sample(msgspec.Struct, frozen=True):
    """One line of a page."""

    raw_labels: bytes
    """As on the page, with braces; empty if there are none."""
    value: float

    def label(self, name: str) -> str:
        """Return the value of a label that has no escapes; empty if the line does not have it."""
        # Inside of a value, a quote would be escaped.
        found = re.search(rb'[{,\s]%s="([^"\\\n]*)"' % name.encode(), self.raw_labels)
        return "" if found is None else found[1].decode(errors="replace")


class Page:
    """The lines of the chosen metrics, by the exact name of each metric. Any other line costs only a search for them.

    Prometheus documents the format: https://prometheus.io/docs/instrumenting/exposition_formats/
    """

    def __init__(self, body: bytes, names: Iterable[str]) -> None:
        """Read *body*. :raises ValueError: a line cannot be read, or there are too many of them."""
        lines = b"\n" + body
        chosen = {name: list(_lines(lines, name)) for name in names}
        count, size = sum(map(len, chosen.values())), sum(len(line) for every in chosen.values() for line in every)
        if count > MAX_SAMPLES or size > MAX_SAMPLE_BYTES:
            raise ValueError(f"{count} lines of {size} bytes are too many for the metrics that are read")
        self._samples = {name: [_sample(line) for line in every] for name, every in chosen.items()}

    def __getitem__(self, name: str) -> list[Sample]:
        """Return the lines of the metric *name*, which was chosen; none if the page does not have it."""
        return self._samples[name]

    def first(self, *names: str) -> list[Sample]:
        """Return the lines of the first metric of *names* that the page has: a metric, and its older names."""
        return next((self._samples[name] for name in names if self._samples[name]), [])

    def total(self, *names: str) -> float | None:
        """Return the sum of all lines of the first of *names*; None if there are none, or one is not a number."""
        samples = self.first(*names)
        return finite(sum(sample.value for sample in samples)) if samples else None


def finite(value: float) -> float | None:
    """Return *value* if it is a number and not infinite."""
    return value if math.isfinite(value) else None


def _lines(page: bytes, name: str) -> Iterator[bytes]:
    """Return what follows *name* on each line that begins with it, but not with a longer name."""
    begin = b"\n" + name.encode()
    found = page.find(begin)
    for _ in range(MAX_SAMPLES):
        if found < 0:
            return
        start = found + len(begin)
        found = page.find(begin, start)
        if page[start : start + 1] in (b"{", b" ", b"\t"):
            end = page.find(b"\n", start)
            yield page[start : end if end >= 0 else len(page)]
    if found >= 0:
        raise ValueError(f"more than {MAX_SAMPLES} lines begin with {name}")


def _sample(line: bytes) -> Sample:
    labels = _LABELS.match(line)
    if labels is None and line.startswith(b"{"):
        raise ValueError("the labels of a line do not end")
    # A timestamp, and in OpenMetrics an exemplar, may follow the value.
    text = line if labels is None else line[labels.end() :]
    try:
        return Sample(b"" if labels is None else labels[0], float(text.split(maxsplit=1)[0]))
    except (ValueError, IndexError):
        raise ValueError("the value of a line is not a number") from None
