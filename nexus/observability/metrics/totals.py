"""The totals of each backend and each model, which those of several workers are added to."""

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from nexus.domain.outcome import Result
from nexus.observability.metrics.counters import RequestCounts, RequestFigures
from nexus.observability.metrics.exchanges import ExchangeMetrics
from nexus.observability.metrics.histogram import Histogram

MAX_LEFT_NAMES: Final = 4_000
"""Backends, and models, whose totals are kept of workers that have ended."""


class Tally(msgspec.Struct, RequestFigures, array_like=True, gc=False):
    """How requests ended, and how long they took; see :class:`RequestCounts`."""

    statuses: dict[tuple[int, Result], int] = {}
    duration_s: float = 0.0
    first_contents: int = 0
    first_content_s: float = 0.0

    def add(self, other: "Tally") -> None:
        for key, count in other.statuses.items():
            self.statuses[key] = self.statuses.get(key, 0) + count
        self.duration_s += other.duration_s
        self.first_contents += other.first_contents
        self.first_content_s += other.first_content_s


class BackendTotals(msgspec.Struct, array_like=True):
    """One backend."""

    tally: Tally = msgspec.field(default_factory=Tally)
    attempts: int = 0
    failed_attempts: int = 0

    def add(self, other: "BackendTotals") -> None:
        self.tally.add(other.tally)
        self.attempts += other.attempts
        self.failed_attempts += other.failed_attempts


class ModelTotals(msgspec.Struct, array_like=True):
    """One model on all backends."""

    tally: Tally = msgspec.field(default_factory=Tally)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    estimated_tokens: int = 0
    """The part of both counts that is estimated."""

    def add(self, other: "ModelTotals") -> None:
        self.tally.add(other.tally)
        self.prompt_tokens += other.prompt_tokens
        self.completion_tokens += other.completion_tokens
        self.estimated_tokens += other.estimated_tokens


class Totals(msgspec.Struct, array_like=True):
    """All backends and models, by name."""

    backends: dict[str, BackendTotals]
    models: dict[str, ModelTotals]

    @property
    def all(self) -> Tally:
        """The counts of all accepted requests."""
        added = Tally()
        for model in self.models.values():
            added.add(model.tally)
        return added

    def add(self, other: "Totals") -> None:
        for name, backend in other.backends.items():
            self.backends.setdefault(name, BackendTotals()).add(backend)
        for name, model in other.models.items():
            self.models.setdefault(name, ModelTotals()).add(model)


def totals_of(metrics: ExchangeMetrics) -> Totals:
    """Return the totals that *metrics* has counted."""
    return Totals(
        {
            name: BackendTotals(_tally(counters.tally), counters.attempts, sum(counters.failures.values()))
            for name, counters in metrics.backends.items()
        },
        {
            name: ModelTotals(
                _tally(counters.tally),
                _sum(counters.prompts) + counters.estimated.prompt_tokens,
                _sum(counters.completions) + counters.estimated.completion_tokens,
                counters.estimated.total_tokens,
            )
            for name, counters in metrics.models.items()
        },
    )


def merge(several: Iterable[Totals]) -> Totals:
    """Return the sums of *several*, which are not changed."""
    merged = Totals({}, {})
    for each in several:
        merged.add(each)
    return merged


def fold(answers: Sequence[msgspec.Raw]) -> msgspec.Raw:
    """Add up several totals as they are sent, oldest first."""
    merged = merge(msgspec.msgpack.decode(answer, type=Totals) for answer in answers)
    backends, models = (dict(list(it.items())[-MAX_LEFT_NAMES:]) for it in (merged.backends, merged.models))
    return msgspec.Raw(msgspec.msgpack.encode((backends, models)))


def _tally(counts: RequestCounts) -> Tally:
    return Tally(counts.statuses, counts.duration_s, counts.first_contents, counts.first_content_s)


def _sum(tokens: Histogram | None) -> int:
    return int(tokens.sum) if tokens is not None else 0
