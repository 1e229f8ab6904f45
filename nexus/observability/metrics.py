"""What Prometheus is told of the exchanges: recorded in plain numbers, made into metrics only when it asks."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from nexus.domain.outcome import Ending, ExchangeOutcome
from nexus.observability.histogram import DURATION_BUCKETS_S, FIRST_CONTENT_BUCKETS_S, Histogram

UNKNOWN_MODEL: Final = "other"
"""Stands for every name that no backend has: clients invent them, and each would be a series for ever."""
NO_BACKEND: Final = "none"


class ExchangeMetrics(Collector):
    """Observes every exchange; its label values come from the fleet alone, never from what a client sent."""

    def __init__(self) -> None:
        self._requests: dict[tuple[str, str, int], int] = defaultdict(int)
        self._durations: dict[tuple[str, str], Histogram] = {}
        self._first_contents: dict[tuple[str, str], Histogram] = {}
        self._tokens: dict[tuple[str, str, str], int] = defaultdict(int)
        self._errors: dict[tuple[str, str], int] = defaultdict(int)
        self._fallbacks: dict[tuple[str, str], int] = defaultdict(int)
        self._disconnects: dict[tuple[str], int] = defaultdict(int)
        self._failures: dict[tuple[str, str], int] = defaultdict(int)
        self._refusals: dict[tuple[str], int] = defaultdict(int)

    def refused(self, code: str) -> None:
        """Count a request that was turned away at the door."""
        self._refusals[code,] += 1

    def observe(self, outcome: ExchangeOutcome) -> None:
        """Count one exchange."""
        model, backend = self._labels(outcome)
        self._requests[model, backend, outcome.status] += 1
        if outcome.code is not None:
            self._errors[outcome.code, model] += 1
        if outcome.ending is Ending.CLIENT_LEFT:
            self._disconnects[outcome.phase,] += 1
        if not outcome.attempts:
            return
        if outcome.ending is not Ending.FINISHED or len(outcome.attempts) > 1:
            self._observe_failures(outcome)
        key = model, backend
        durations = self._durations.get(key)
        if durations is None:
            durations = self._durations[key] = Histogram(DURATION_BUCKETS_S)
            self._first_contents[key] = Histogram(FIRST_CONTENT_BUCKETS_S)
        durations.observe(outcome.duration_s)
        if outcome.first_byte_s is not None:
            self._first_contents[key].observe(outcome.first_byte_s)
        if outcome.usage is not None:
            self._tokens[model, backend, "prompt"] += outcome.usage.prompt_tokens
            self._tokens[model, backend, "completion"] += outcome.usage.completion_tokens
        if outcome.fallback_model is not None:
            self._fallbacks[outcome.model or UNKNOWN_MODEL, outcome.fallback_model] += 1

    def _labels(self, outcome: ExchangeOutcome) -> tuple[str, str]:
        if not outcome.attempts:
            return UNKNOWN_MODEL, NO_BACKEND
        last = outcome.attempts[-1]
        return last.model, last.backend

    def _observe_failures(self, outcome: ExchangeOutcome) -> None:
        for attempt in outcome.attempts:
            if attempt.fault is not None:
                self._failures[attempt.backend, attempt.fault] += 1

    def collect(self) -> Iterator[Metric]:
        """Make the metrics, for Prometheus's client library."""
        yield _counter(
            "nexus_requests",
            "Requests by the model and backend that answered and by status; backend 'none' when nobody was asked.",
            ("model", "backend", "status"),
            self._requests,
        )
        yield _histogram(
            "nexus_request_duration_seconds", "From a request's first byte to the last of its answer.", self._durations
        )
        yield _histogram(
            "nexus_time_to_first_token_seconds",
            "From a request's first byte to the first content of its answer.",
            self._first_contents,
        )
        yield _counter(
            "nexus_tokens",
            "Tokens as the backends counted them, prompt and completion apart.",
            ("model", "backend", "type"),
            self._tokens,
        )
        yield _counter(
            "nexus_errors", "Errors by the code that the client was given.", ("error_type", "model"), self._errors
        )
        yield _counter(
            "nexus_fallbacks",
            "Answers by a fallback instead of the model asked for.",
            ("from_model", "to_model"),
            self._fallbacks,
        )
        yield _counter(
            "nexus_attempt_failures",
            "Attempts at a backend that failed, by how they did.",
            ("backend", "fault"),
            self._failures,
        )
        yield _counter(
            "nexus_client_disconnects",
            "Clients that left before their answer was whole, by phase.",
            ("phase",),
            self._disconnects,
        )
        yield _counter("nexus_rejected", "Requests that were turned away at the door.", ("reason",), self._refusals)


def _counter(
    name: str,
    documentation: str,
    labels: Sequence[str],
    counts: Mapping[Any, int],
) -> Metric:
    family = CounterMetricFamily(name, documentation, labels=labels)
    for values, count in sorted(counts.items()):
        family.add_metric([str(value) for value in values], count)
    return family


def _histogram(name: str, documentation: str, histograms: dict[tuple[str, str], Histogram]) -> Metric:
    family = HistogramMetricFamily(name, documentation, labels=("model", "backend"))
    for values, histogram in sorted(histograms.items()):
        family.add_metric(list(values), histogram.buckets(), sum_value=histogram.sum)
    return family
