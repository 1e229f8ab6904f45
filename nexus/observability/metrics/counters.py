"""The counters of backends, of models, and of each model on each backend."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Final

from nexus.domain.outcome import FIRST_SERVER_ERROR, ExchangeOutcome, Result
from nexus.domain.request import TokenUsage
from nexus.domain.statuses import FIRST_ERROR
from nexus.observability.metrics.histogram import TOKEN_BUCKETS, TOKEN_RATE_BUCKETS, Histogram
from nexus.observability.metrics.times import Times

OTHER_MODEL: Final = "other"
"""Stands for all names that no backend has: clients may invent names, and each would become a permanent series."""


class RequestFigures:
    """What follows from how requests ended."""

    __slots__ = ()

    statuses: Mapping[tuple[int, Result], int]
    """Requests by status and result."""

    @property
    def requests(self) -> int:
        return sum(self.statuses.values())

    @property
    def results(self) -> dict[Result, int]:
        """Requests by result; the counts below depend on the status instead."""
        results: dict[Result, int] = {}
        for (_, result), count in self.statuses.items():
            results[result] = results.get(result, 0) + count
        return results

    @property
    def successes(self) -> int:
        """2xx, and the whole answer was sent."""
        return sum(n for (status, it), n in self.statuses.items() if status < FIRST_ERROR and it is _FINISHED)

    @property
    def unfinished(self) -> int:
        """Answers that began with a success and broke off: the client left, or the backend failed."""
        return sum(n for (status, it), n in self.statuses.items() if status < FIRST_ERROR and it is not _FINISHED)

    @property
    def client_errors(self) -> int:
        return sum(n for (status, _), n in self.statuses.items() if FIRST_ERROR <= status < FIRST_SERVER_ERROR)

    @property
    def server_errors(self) -> int:
        return sum(n for (status, _), n in self.statuses.items() if status >= FIRST_SERVER_ERROR)


class RequestCounts(RequestFigures):
    """How requests ended, and how long they took."""

    __slots__ = ("duration_s", "first_content_s", "first_contents", "statuses")

    def __init__(self) -> None:
        self.statuses: dict[tuple[int, Result], int] = defaultdict(int)
        self.duration_s = 0.0
        self.first_contents = 0
        """Streams with any content."""
        self.first_content_s = 0.0
        """The times to the first content of these streams, added up."""


_FINISHED: Final = Result.FINISHED


def total(counts: Iterable[RequestCounts]) -> RequestCounts:
    added = RequestCounts()
    statuses = added.statuses
    duration_s, first_contents, first_content_s = 0.0, 0, 0.0
    for each in counts:
        for key, count in each.statuses.items():
            statuses[key] += count
        duration_s += each.duration_s
        first_contents += each.first_contents
        first_content_s += each.first_content_s
    added.duration_s, added.first_contents, added.first_content_s = duration_s, first_contents, first_content_s
    return added


class ModelOnBackend(RequestCounts):
    """One model on one backend."""

    __slots__ = (
        "bytes_in",
        "bytes_out",
        "completion_tokens",
        "estimated_completion_tokens",
        "estimated_prompt_tokens",
        "has_estimate",
        "has_usage",
        "labels",
        "prompt_tokens",
        "times",
    )

    def __init__(self, labels: tuple[str, str]) -> None:
        """:param labels: the names of the model and of the backend."""
        super().__init__()
        self.labels = labels
        self.times: Times | None = None
        """None unless they are counted for each pair."""
        self.has_usage = False
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self.has_estimate = False
        self.estimated_prompt_tokens = 0
        self.estimated_completion_tokens = 0
        self.bytes_in = 0
        self.bytes_out = 0

    def observe(self, outcome: ExchangeOutcome) -> None:
        self.statuses[outcome.status, outcome.result] += 1
        self.duration_s += outcome.duration_s
        self.bytes_in += outcome.bytes_in
        self.bytes_out += outcome.bytes_out
        if outcome.is_stream and outcome.first_byte_s is not None:
            self.first_contents += 1
            self.first_content_s += outcome.first_byte_s
        usage = outcome.usage
        if usage is not None and usage.is_estimated:
            self.has_estimate = True
            self.estimated_prompt_tokens += usage.prompt_tokens
            self.estimated_completion_tokens += usage.completion_tokens
        elif usage is not None:
            self.has_usage = True
            self.prompt_tokens += usage.prompt_tokens
            self.completion_tokens += usage.completion_tokens


class BackendCounters:
    """One backend, and each model on it."""

    __slots__ = ("attempts", "cells", "failures", "times", "token_rates")

    def __init__(self) -> None:
        self.times = Times()
        self.cells: dict[str, ModelOnBackend] = {}
        """By the model's name."""
        self.attempts = 0
        self.failures: dict[str, int] = defaultdict(int)
        self.token_rates: Histogram | None = None

    @property
    def tally(self) -> RequestCounts:
        return total(self.cells.values())

    def observe_rate(self, tokens_per_s: float) -> None:
        """Record the tokens per second of one stream."""
        if self.token_rates is None:
            self.token_rates = Histogram(TOKEN_RATE_BUCKETS)
        self.token_rates.observe(tokens_per_s)


class ModelCounters:
    """One model on all backends."""

    __slots__ = (
        *("_cells", "_gone", "completions", "embedded_tokens", "embeddings", "estimated", "name", "prompts", "times"),
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.times = Times()
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
        return total((self._gone, *self._cells))

    def new_cell(self, backend: str) -> ModelOnBackend:
        """Add and return the cell of another backend."""
        cell = ModelOnBackend((self.name, backend))
        self._cells.append(cell)
        return cell

    def forget(self, cell: ModelOnBackend) -> None:
        """Drop *cell*, but keep its counts."""
        self._cells.remove(cell)
        self._gone = total((self._gone, cell))

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
