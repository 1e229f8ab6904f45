"""The counters of backends, of models, and of each model on each backend."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Final

from nexus.domain.outcome import AttemptOutcome, ExchangeOutcome, Result
from nexus.domain.request import TokenUsage
from nexus.observability.metrics.histogram import (
    DURATION_BUCKETS_S,
    FIRST_CONTENT_BUCKETS_S,
    TOKEN_BUCKETS,
    TOKEN_GAP_BUCKETS_S,
    TOKEN_RATE_BUCKETS,
    Histogram,
    TracedHistogram,
)

OTHER_MODEL: Final = "other"
"""Stands for all names that no backend has: clients may invent names, and each would become a permanent series."""


class RequestCounts:
    """How requests ended, and how long they took."""

    __slots__ = (
        "client_errors",
        "duration_s",
        "first_content_s",
        "first_contents",
        "results",
        "server_errors",
        "successes",
        "unfinished",
    )

    def __init__(self) -> None:
        self.results: dict[Result, int] = {}
        """Requests by result; the counts below depend on the status instead."""
        self.successes = 0
        """2xx, and the whole answer was sent."""
        self.client_errors = 0
        self.server_errors = 0
        self.unfinished = 0
        """Answers that began with a success and broke off: the client left, or the backend failed."""
        self.duration_s = 0.0
        self.first_contents = 0
        """Streams with any content."""
        self.first_content_s = 0.0
        """The times to the first content of these streams, added up."""

    @property
    def requests(self) -> int:
        return self.successes + self.client_errors + self.server_errors + self.unfinished

    def count(self, outcome: ExchangeOutcome, result: Result) -> None:
        status = outcome.status
        self.results[result] = self.results.get(result, 0) + 1
        self.duration_s += outcome.duration_s
        if status >= 500:
            self.server_errors += 1
        elif status >= 400:
            self.client_errors += 1
        elif result is Result.FINISHED:
            self.successes += 1
        else:
            self.unfinished += 1
        if outcome.is_stream and outcome.first_byte_s is not None:
            self.first_contents += 1
            self.first_content_s += outcome.first_byte_s

    def add(self, other: "RequestCounts") -> None:
        for result, count in other.results.items():
            self.results[result] = self.results.get(result, 0) + count
        for name in _ADDED:
            setattr(self, name, getattr(self, name) + getattr(other, name))


_ADDED: Final = tuple(name for name in RequestCounts.__slots__ if name != "results")


def total(counts: Iterable[RequestCounts]) -> RequestCounts:
    added = RequestCounts()
    for each in counts:
        added.add(each)
    return added


class ModelOnBackend:
    """One model on one backend."""

    __slots__ = (
        "bytes_in",
        "bytes_out",
        "completion_tokens",
        "durations",
        "estimated_completion_tokens",
        "estimated_prompt_tokens",
        "first_contents",
        "has_estimate",
        "has_usage",
        "prompt_tokens",
        "statuses",
        "tally",
        "token_gaps",
    )

    def __init__(self) -> None:
        self.tally = RequestCounts()
        self.statuses: dict[tuple[int, Result], int] = defaultdict(int)
        self.durations = TracedHistogram(DURATION_BUCKETS_S)
        self.first_contents: TracedHistogram | None = None
        self.token_gaps: Histogram | None = None
        self.has_usage = False
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self.has_estimate = False
        self.estimated_prompt_tokens = 0
        self.estimated_completion_tokens = 0
        self.bytes_in = 0
        self.bytes_out = 0

    def observe(self, outcome: ExchangeOutcome) -> None:
        result = outcome.result
        self.tally.count(outcome, result)
        self.statuses[outcome.status, result] += 1
        duration_s = outcome.duration_s
        request_id, now_unix_s = outcome.request_id, outcome.received_at + duration_s
        self.durations.trace((request_id, duration_s, now_unix_s))
        self.bytes_in += outcome.bytes_in
        self.bytes_out += outcome.bytes_out
        if outcome.is_stream and outcome.first_byte_s is not None:
            if self.first_contents is None:
                self.first_contents = TracedHistogram(FIRST_CONTENT_BUCKETS_S)
            self.first_contents.trace((request_id, outcome.first_byte_s, now_unix_s))
        usage = outcome.usage
        if usage is not None and usage.is_estimated:
            self.has_estimate = True
            self.estimated_prompt_tokens += usage.prompt_tokens
            self.estimated_completion_tokens += usage.completion_tokens
        elif usage is not None:
            self.has_usage = True
            self.prompt_tokens += usage.prompt_tokens
            self.completion_tokens += usage.completion_tokens

    def observe_pace(self, attempt: AttemptOutcome, backend: "BackendCounters") -> None:
        """Record the pace of a stream, in tokens as counted by the backend, or else in content blocks."""
        first_s, last_s, usage = attempt.first_byte_s, attempt.last_content_s, attempt.usage
        count = attempt.content_blocks if usage is None else usage.completion_tokens
        if first_s is None or last_s is None or last_s <= first_s or count < 2:
            return
        gap_s = (last_s - first_s) / (count - 1)
        if self.token_gaps is None:
            self.token_gaps = Histogram(TOKEN_GAP_BUCKETS_S)
        self.token_gaps.observe(gap_s)
        if usage is not None:
            if backend.token_rates is None:
                backend.token_rates = Histogram(TOKEN_RATE_BUCKETS)
            backend.token_rates.observe(1 / gap_s)


class BackendCounters:
    """One backend, and each model on it."""

    __slots__ = ("attempts", "cells", "failures", "token_rates")

    def __init__(self) -> None:
        self.cells: dict[str, ModelOnBackend] = {}
        """By the model's name."""
        self.attempts = 0
        self.failures: dict[str, int] = defaultdict(int)
        self.token_rates: Histogram | None = None

    @property
    def tally(self) -> RequestCounts:
        return total(cell.tally for cell in self.cells.values())


class ModelCounters:
    """One model on all backends."""

    __slots__ = ("_cells", "_gone", "completions", "embedded_tokens", "embeddings", "estimated", "name", "prompts")

    def __init__(self, name: str) -> None:
        self.name = name
        self._cells: list[ModelOnBackend] = []
        """One per backend."""
        self._gone = RequestCounts()
        """The counts of forgotten backends."""
        self.prompts: Histogram | None = None
        self.completions: Histogram | None = None
        self.estimated = TokenUsage(is_estimated=True)
        """The sum of all estimated usages."""
        self.embeddings = 0
        self.embedded_tokens = 0

    @property
    def tally(self) -> RequestCounts:
        return total((self._gone, *(cell.tally for cell in self._cells)))

    def new_cell(self) -> ModelOnBackend:
        """Add and return the cell of another backend."""
        cell = ModelOnBackend()
        self._cells.append(cell)
        return cell

    def forget(self, cell: ModelOnBackend) -> None:
        """Drop *cell*, but keep its counts."""
        self._cells.remove(cell)
        self._gone.add(cell.tally)

    def observe_tokens(self, usage: TokenUsage) -> None:
        if usage.is_estimated:
            before = self.estimated
            self.estimated = TokenUsage(
                before.prompt_tokens + usage.prompt_tokens,
                before.completion_tokens + usage.completion_tokens,
                is_estimated=True,
            )
            return
        if self.prompts is None or self.completions is None:
            self.prompts, self.completions = Histogram(TOKEN_BUCKETS), Histogram(TOKEN_BUCKETS)
        self.prompts.observe(usage.prompt_tokens)
        self.completions.observe(usage.completion_tokens)

    def observe_embeddings(self, outcome: ExchangeOutcome) -> None:
        self.embeddings += 1
        if outcome.usage is not None:
            self.embedded_tokens += outcome.usage.prompt_tokens
