"""Merges the metrics of several workers into those of one proxy."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from nexus.observability.metrics.exposition import chunks
from nexus.observability.metrics.families import Across, Family, Kind, Row
from nexus.observability.metrics.histogram import Exemplar, Histogram, TracedHistogram

WORKER: Final = "worker"
"""The label of series that are not merged."""
MAX_LEFT_ROWS: Final = 40_000
"""Series of one metric that are kept of workers that have ended, in which many backends may have come and gone."""

Labels = tuple[str, ...]


class SentHistogram(msgspec.Struct, array_like=True, gc=False):
    """One histogram."""

    counts: list[int]
    sum: float
    exemplars: list[Exemplar | None] | None = None


class SentRows(msgspec.Struct, array_like=True):
    """A family with some of its rows; of none, one message without rows is sent."""

    name: str
    kind: Kind
    documentation: str
    labels: Labels
    across: Across
    bounds: tuple[float, ...] = ()
    """Of its histograms."""
    rows: list[tuple[Labels, int | float | SentHistogram]] = []


def messages_of(family: Family) -> Iterator[bytes]:
    """Yield *family* as messages, each made in a fraction of a millisecond; as bytes, which are passed on unread."""
    is_empty = True
    for rows in chunks(family.rows):
        is_empty = False
        yield _message(family, rows)
    if is_empty:
        yield _message(family, ())


class MergedFamilies:
    """Families of the workers whose messages were added."""

    def __init__(self) -> None:
        self._families: dict[str, _Merged] = {}

    def add(self, message: bytes, worker: str) -> None:
        """Add a message of a *worker* that has answered."""
        rows = _decode(message)
        merged = self._families.get(rows.name)
        if merged is None:
            merged = self._families[rows.name] = _Merged(rows, worker)
        merged.add(rows, worker)

    def add_last(self, message: bytes) -> None:
        """Add the counts in a message of a worker that is silent or has ended, if another one has the family."""
        rows = _decode(message)
        if (merged := self._families.get(rows.name)) is not None and _is_counted(rows):
            merged.add(rows, "")

    def take(self) -> Iterator[Family]:
        """Yield the families in the order in which they came, and forget each: all at once would take milliseconds."""
        for name in tuple(self._families):
            yield self._families.pop(name).family()


def fold(answers: Sequence[msgspec.Raw]) -> msgspec.Raw:
    """Add up the counts in several answers, each a sequence of messages, oldest first; gauges are left out."""
    merged: dict[str, _Merged] = {}
    for answer in answers:
        for message in msgspec.msgpack.decode(answer, type=tuple[bytes, ...]):
            rows = _decode(message)
            if not _is_counted(rows):
                continue
            family = merged.get(rows.name)
            if family is None or not family.fits(rows):
                # A reload may have changed the labels of a plugin's metric.
                family = merged[rows.name] = _Merged(rows, "")
            family.add(rows, "")
    folded = (message for family in merged.values() for message in messages_of(family.newest(MAX_LEFT_ROWS)))
    return msgspec.Raw(msgspec.msgpack.encode(tuple(folded)))


class _Merged:
    """One family of several workers."""

    def __init__(self, first: SentRows, worker: str) -> None:
        self._first = first
        self._worker = worker
        """The first to have the family."""
        self._rows: dict[Labels, Row] = {}

    def fits(self, rows: SentRows) -> bool:
        """Whether *rows* can be merged; a plugin's metrics may have other labels after a reload."""
        first = self._first
        # Without rows, neither labels nor buckets are known.
        return rows.kind == first.kind and (
            not self._rows
            or not rows.rows
            or (rows.labels, rows.across, rows.bounds) == (first.labels, first.across, first.bounds)
        )

    def add(self, rows: SentRows, worker: str) -> None:
        if not self.fits(rows) or not rows.rows:
            return
        if not self._rows:
            self._first, self._worker = rows, worker
        elif rows.across == "same" and worker != self._worker:
            return
        merged, is_each, merge = self._rows, rows.across == "each", _MERGES[rows.across]
        for labels, value in rows.rows:
            key = (*labels, worker) if is_each else labels
            counted = _histogram(rows.bounds, value) if isinstance(value, SentHistogram) else value
            before = merged.get(key)
            merged[key] = (key, counted if before is None else merge(before[1], counted))

    def family(self) -> Family:
        first = self._first
        labels = (*first.labels, WORKER) if first.across == "each" else first.labels
        return Family(first.name, first.kind, first.documentation, labels, self._rows.values(), first.across)

    def newest(self, most: int) -> Family:
        """Return the family with the last *most* of its rows."""
        return msgspec.structs.replace(self.family(), rows=list(self._rows.values())[-most:])


def _is_counted(rows: SentRows) -> bool:
    return rows.kind != "gauge" and rows.across == "sum"


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(SentRows).decode


def _message(family: Family, rows: Iterable[Row]) -> bytes:
    bounds: Sequence[float] = ()
    sent: list[tuple[Labels, int | float | SentHistogram]] = []
    for labels, value in rows:
        if isinstance(value, Histogram):
            bounds = value.bounds
            exemplars = value.exemplars if isinstance(value, TracedHistogram) else None
            sent.append((labels, SentHistogram(value.counts, value.sum, exemplars)))
        else:
            sent.append((labels, value))
    head = family.name, family.kind, family.documentation, family.labels, family.across
    return _encode(SentRows(*head, tuple(bounds), sent))


def _histogram(bounds: Sequence[float], sent: SentHistogram) -> Histogram:
    histogram = Histogram(bounds) if sent.exemplars is None else TracedHistogram(bounds)
    histogram.counts, histogram.sum = sent.counts, sent.sum
    if isinstance(histogram, TracedHistogram):
        histogram.exemplars = sent.exemplars or histogram.exemplars
    return histogram


def _added(one: Any, two: Any) -> Any:
    # The rows of a family are all numbers or all histograms.
    if isinstance(one, Histogram):
        one.add(two)
        return one
    return one + two


_MERGES: Final[Mapping[Across, Callable[[Any, Any], Any]]] = {
    "sum": _added,
    "max": max,
    "min": min,
    "same": lambda _, new: new,
    "each": lambda _, new: new,
}
