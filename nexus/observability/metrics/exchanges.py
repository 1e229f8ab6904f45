"""Counts exchanges, and makes metric families of the counts at each scrape."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from typing import Final

from nexus.domain.fleet import FleetSnapshot
from nexus.domain.outcome import AttemptOutcome, Ending, ExchangeOutcome
from nexus.observability.metrics.counters import (
    OTHER_MODEL,
    BackendCounters,
    ModelCounters,
    ModelOnBackend,
    RequestCounts,
    total,
)
from nexus.observability.metrics.families import Family, Row, counter, histogram
from nexus.observability.metrics.histogram import Histogram
from nexus.observability.metrics.times import Times, gap_s_of, observe_gap, observe_times

_FINISHED: Final = Ending.FINISHED
"""Kept here: up to Python 3.11, each look at a member through its class takes as long as a call."""

NO_BACKEND: Final = "none"
MAX_MODELS: Final = 2_000
"""Models with their own series; further ones are counted as ``other``."""
MAX_BACKENDS: Final = 1_000
"""Backends that are kept; beyond that, those that have left the fleet are forgotten with all their series."""


class ExchangeMetrics:
    """Observes every exchange; its label values come from the fleet and the configuration, never from a client."""

    def __init__(
        self, snapshot: Callable[[], FleetSnapshot], *, embedding_endpoints: frozenset[str] = frozenset()
    ) -> None:
        """:param embedding_endpoints: the names of the endpoints for embeddings."""
        self.configured_models: Collection[str] = frozenset()
        """Names with their own series besides those of the fleet: aliases and fallbacks."""
        self._has_pair_times = False
        self._snapshot = snapshot
        self._embeddings = embedding_endpoints
        self.backends: dict[str, BackendCounters] = {}
        """By name; :data:`NO_BACKEND` has the requests that were sent to no backend."""
        self.models: dict[str, ModelCounters] = {OTHER_MODEL: ModelCounters(OTHER_MODEL)}
        self._by_endpoint: dict[tuple[str, bool], int] = defaultdict(int)
        self._errors: dict[tuple[str, ...], float] = defaultdict(int)
        self._fallbacks: dict[tuple[str, ...], float] = defaultdict(int)
        self._disconnects: dict[tuple[str, ...], float] = defaultdict(int)
        self._retries: dict[tuple[str, ...], float] = defaultdict(int)
        self._failovers: dict[tuple[str, ...], float] = defaultdict(int)
        self._translated: dict[tuple[str, ...], float] = defaultdict(int)
        self._refusals: dict[tuple[str, ...], float] = defaultdict(int)

    def count_pairs(self, *, times: bool) -> None:
        """Count how long requests took for each model on each backend too, from now on, if *times*."""
        self._has_pair_times = times
        for backend in self.backends.values():
            for cell in backend.cells.values():
                cell.times = (cell.times or Times()) if times else None

    @property
    def all(self) -> RequestCounts:
        """The counts of all accepted requests."""
        return total(counters.tally for counters in self.models.values())

    def refused(self, code: str) -> None:
        """Count a request that was refused before it was accepted."""
        self._refusals[code,] += 1

    def observe(self, outcome: ExchangeOutcome) -> None:
        last = outcome.attempts[-1] if outcome.attempts else None
        if last is not None:
            model = self.models.get(last.model) or self._add_model(last.model)
            backend = self.backends.get(last.backend) or self._add_backend(last.backend)
        else:
            model = self._requested_model(outcome.model)
            backend = self.backends.get(NO_BACKEND) or self._add_backend(NO_BACKEND)
        cell = backend.cells.get(model.name)
        if cell is None:
            cell = self._add_cell(model, backend, NO_BACKEND if last is None else last.backend)
        cell.observe(outcome)
        observed = (model.times, backend.times) if cell.times is None else (model.times, backend.times, cell.times)
        observe_times(observed, outcome)
        self._by_endpoint[outcome.endpoint, outcome.is_stream] += 1
        if outcome.usage is not None:
            model.observe_tokens(outcome.usage)
        if outcome.endpoint in self._embeddings:
            model.observe_embeddings(outcome)
        if last is not None:
            backend.attempts += 1
            if last.is_stream and last.last_content_s is not None and (gap_s := gap_s_of(last)) is not None:
                observe_gap(observed, gap_s)
                if last.usage is not None:
                    backend.observe_rate(1 / gap_s)
        if outcome.translated is not None:
            self._translated[outcome.translated,] += 1
        # An error of the backend that is passed on finishes the exchange, but is a failed attempt.
        is_success = outcome.ending is _FINISHED and (last is None or last.fault is None)
        if not is_success or len(outcome.attempts) > 1 or outcome.fallback_model is not None:
            self._observe_failures(outcome, model.name)

    def _observe_failures(self, outcome: ExchangeOutcome, model: str) -> None:
        if outcome.code is not None:
            self._errors[outcome.code, model] += 1
        if outcome.ending is Ending.CLIENT_LEFT:
            self._disconnects[outcome.phase,] += 1
        if outcome.fallback_model is not None:
            self._fallbacks[self._requested_model(outcome.model).name, model] += 1
        for attempt in outcome.attempts[:-1]:
            self._backend_counters(attempt).attempts += 1
            self._retries[_reason(attempt),] += 1
        for attempt in outcome.attempts:
            if attempt.fault is not None:
                self._backend_counters(attempt).failures[_reason(attempt)] += 1
        if len(outcome.attempts) > 1 and outcome.status < 400:
            self._failovers[_reason(outcome.attempts[0]),] += 1

    def _backend_counters(self, attempt: AttemptOutcome) -> BackendCounters:
        return self.backends.get(attempt.backend) or self._add_backend(attempt.backend)

    def _add_backend(self, backend: str) -> BackendCounters:
        if len(self.backends) >= MAX_BACKENDS:
            present = {NO_BACKEND, *(member.name for member in self._snapshot().backends)}
            for gone in self.backends.keys() - present:
                for model, cell in self.backends.pop(gone).cells.items():
                    self.models[model].forget(cell)
        added = self.backends[backend] = BackendCounters()
        return added

    def _add_cell(self, model: ModelCounters, backend: BackendCounters, name: str) -> ModelOnBackend:
        cell = backend.cells[model.name] = model.new_cell(name)
        if self._has_pair_times:
            cell.times = Times()
        return cell

    def _requested_model(self, model: str | None) -> ModelCounters:
        """Return the counters of a name that a client sent, if the fleet or the configuration has it."""
        if model is not None and (model in self._snapshot().by_model or model in self.configured_models):
            return self.models.get(model) or self._add_model(model)
        return self.models[OTHER_MODEL]

    def _add_model(self, model: str) -> ModelCounters:
        if not model or len(self.models) >= MAX_MODELS:
            return self.models[OTHER_MODEL]
        admitted = self.models[model] = ModelCounters(model)
        return admitted

    def families(self) -> Iterator[Family]:
        """Make the families, one after the other."""
        yield from self._cell_families()
        yield from self._backend_families()
        yield from self._model_families()
        yield counter(
            "nexus_endpoint_requests",
            "Requests by endpoint, and by whether a stream was requested.",
            {(name, str(is_stream).lower()): count for (name, is_stream), count in self._by_endpoint.items()},
            *("endpoint", "stream"),
        )
        yield counter(
            "nexus_errors", "Errors by the code that the client was given.", self._errors, "error_type", "model"
        )
        yield counter(
            "nexus_fallbacks",
            "Requests that were sent to a fallback instead of the requested model.",
            self._fallbacks,
            *("from_model", "to_model"),
        )
        yield counter(
            "nexus_translated_requests",
            "Requests that were answered by a backend of another protocol, by the protocols of client and backend.",
            self._translated,
            "translation",
        )
        yield counter(
            "nexus_retries",
            "Further attempts at other backends, by why the one before failed.",
            self._retries,
            "reason",
        )
        yield counter(
            "nexus_failovers",
            "Requests that another backend answered successfully, by why the first one failed.",
            self._failovers,
            "reason",
        )
        yield counter(
            "nexus_client_disconnects",
            "Clients that left before their answer was complete, by phase.",
            self._disconnects,
            "phase",
        )
        yield counter(
            "nexus_rejected", "Requests that were refused before they were accepted.", self._refusals, "reason"
        )

    def _cell_families(self) -> Iterator[Family]:
        # A list, because requests continue while the page is written; each row is read when it is.
        cells = [cell for backend in self.backends.values() for cell in backend.cells.values()]
        labels = "model", "backend"
        yield counter(
            "nexus_requests",
            "Requests by model, backend, status and result; backend 'none' when no backend was tried.",
            (row for cell in cells for row in _requests(cell)),
            *(*labels, "status", "result"),
        )
        if self._has_pair_times:
            yield from _times([(c.labels, c.times) for c in cells if c.times is not None], *labels)
        yield counter(
            "nexus_tokens",
            "Tokens, prompt and completion apart, as the backends reported them, or estimated where they did not.",
            (row for cell in cells for row in _tokens(cell)),
            *(*labels, "type", "counted"),
        )
        yield counter(
            "nexus_request_bytes", "Bytes of the bodies of requests.", ((c.labels, c.bytes_in) for c in cells), *labels
        )
        yield counter(
            "nexus_response_bytes", "Bytes of the bodies of answers.", ((c.labels, c.bytes_out) for c in cells), *labels
        )

    def _backend_families(self) -> Iterator[Family]:
        backends = [((name,), counters) for name, counters in self.backends.items() if name != NO_BACKEND]
        yield from _times_of_backends([(key, counters.times) for key, counters in backends])
        yield counter(
            "nexus_attempts",
            "Attempts at a backend, including retries.",
            {key: counters.attempts for key, counters in backends},
            "backend",
        )
        yield counter(
            "nexus_attempt_failures",
            "Failed attempts at a backend, by fault.",
            {(*key, fault): count for key, counters in backends for fault, count in counters.failures.items()},
            *("backend", "fault"),
        )
        yield histogram(
            "nexus_tokens_per_second",
            "Tokens a second of one stream, from its first to its last, where the backend counts them.",
            _present((key, counters.token_rates) for key, counters in backends),
            "backend",
        )

    def _model_families(self) -> Iterator[Family]:
        models = list(self.models.items())
        if not self._has_pair_times:
            yield from _times([((name,), counters.times) for name, counters in models], "model")
        yield histogram(
            "nexus_request_tokens",
            "Tokens of one request, prompt and completion apart.",
            _present(
                ((name, kind), sizes)
                for name, counters in models
                for kind, sizes in (("prompt", counters.prompts), ("completion", counters.completions))
            ),
            *("model", "type"),
        )
        embedders = [((name,), counters) for name, counters in models if counters.embeddings]
        yield counter(
            "nexus_embeddings_requests",
            "Requests for embeddings.",
            {key: counters.embeddings for key, counters in embedders},
            "model",
        )
        yield counter(
            "nexus_embeddings_tokens",
            "Tokens of requests for embeddings.",
            {key: counters.embedded_tokens for key, counters in embedders},
            "model",
        )


def _present(
    rows: "Iterator[tuple[tuple[str, ...], Histogram | None]]",
) -> dict[tuple[str, ...], Histogram]:
    return {key: counted for key, counted in rows if counted is not None}


def _requests(cell: ModelOnBackend) -> Iterator[Row]:
    for (status, result), count in tuple(cell.statuses.items()):
        yield (*cell.labels, str(status), result.value), count


def _tokens(cell: ModelOnBackend) -> Iterator[Row]:
    """Yield the tokens of *cell* by type and by how they were counted."""
    if cell.has_usage:
        yield (*cell.labels, "prompt", "reported"), cell.prompt_tokens
        yield (*cell.labels, "completion", "reported"), cell.completion_tokens
    if cell.has_estimate:
        yield (*cell.labels, "prompt", "estimated"), cell.estimated_prompt_tokens
        yield (*cell.labels, "completion", "estimated"), cell.estimated_completion_tokens


_DURATION: Final = "From a request's first byte to the last of its answer."
_FIRST_CONTENT: Final = "From a request's first byte to the first content of its stream."
_PACE: Final = "The mean time between two tokens of a stream, or two content blocks where the backend counts no tokens."

Counted = list[tuple[tuple[str, ...], Times]]
"""The times of each model, each backend, or each model on each backend."""


def _times(counted: Counted, *labels: str) -> Iterator[Family]:
    durations, first_contents, gaps = _histograms(counted)
    yield histogram("nexus_request_duration_seconds", _DURATION, durations, *labels)
    yield histogram("nexus_time_to_first_token_seconds", _FIRST_CONTENT, first_contents, *labels)
    yield histogram("nexus_time_between_tokens_seconds", _PACE, gaps, *labels)


def _times_of_backends(counted: Counted) -> Iterator[Family]:
    durations, first_contents, gaps = _histograms(counted)
    yield histogram("nexus_backend_request_duration_seconds", _DURATION, durations, "backend")
    yield histogram("nexus_backend_time_to_first_token_seconds", _FIRST_CONTENT, first_contents, "backend")
    yield histogram("nexus_backend_time_between_tokens_seconds", _PACE, gaps, "backend")


def _histograms(counted: Counted) -> tuple[dict[tuple[str, ...], Histogram], ...]:
    return (
        _present((key, times.durations) for key, times in counted),
        _present((key, times.first_contents) for key, times in counted),
        _present((key, times.token_gaps) for key, times in counted),
    )


def _reason(attempt: AttemptOutcome) -> str:
    """Return why an attempt failed, with the number of a status."""
    if attempt.fault == "status":
        return f"status_{attempt.status}"
    return attempt.fault or attempt.ending
