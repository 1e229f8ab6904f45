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
from nexus.observability.metrics.families import Family, counter, histogram
from nexus.observability.metrics.histogram import Histogram

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
        self._refusals: dict[tuple[str, ...], float] = defaultdict(int)

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
            cell = backend.cells[model.name] = model.new_cell()
        cell.observe(outcome)
        self._by_endpoint[outcome.endpoint, outcome.is_stream] += 1
        if outcome.usage is not None:
            model.observe_tokens(outcome.usage)
        if outcome.endpoint in self._embeddings:
            model.observe_embeddings(outcome)
        if last is not None:
            backend.attempts += 1
            if last.is_stream and last.last_content_s is not None:
                cell.observe_pace(last, backend)
        # An error of the backend that is passed on finishes the exchange, but is a failed attempt.
        is_success = outcome.ending is Ending.FINISHED and (last is None or last.fault is None)
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
        cells = [
            ((model, backend), cell)
            for backend, counters in self.backends.items()
            for model, cell in counters.cells.items()
        ]
        labels = "model", "backend"
        yield counter(
            "nexus_requests",
            "Requests by model, backend, status and result; backend 'none' when no backend was tried.",
            {
                (*key, str(status), result.value): count
                for key, cell in cells
                for (status, result), count in cell.statuses.items()
            },
            *(*labels, "status", "result"),
        )
        yield histogram(
            "nexus_request_duration_seconds",
            "From a request's first byte to the last of its answer.",
            {key: cell.durations for key, cell in cells},
            *labels,
        )
        yield histogram(
            "nexus_time_to_first_token_seconds",
            "From a request's first byte to the first content of its stream.",
            _present((key, cell.first_contents) for key, cell in cells),
            *labels,
        )
        yield histogram(
            "nexus_time_between_tokens_seconds",
            "The mean time between two tokens of a stream, or two content blocks where the backend counts no tokens.",
            _present((key, cell.token_gaps) for key, cell in cells),
            *labels,
        )
        yield counter(
            "nexus_tokens",
            "Tokens, prompt and completion apart, as the backends reported them, or estimated where they did not.",
            {(*key, *kind): count for key, cell in cells for kind, count in _tokens(cell)},
            *(*labels, "type", "counted"),
        )
        yield counter(
            "nexus_request_bytes", "Bytes of the bodies of requests.", {k: cell.bytes_in for k, cell in cells}, *labels
        )
        yield counter(
            "nexus_response_bytes", "Bytes of the bodies of answers.", {k: cell.bytes_out for k, cell in cells}, *labels
        )

    def _backend_families(self) -> Iterator[Family]:
        backends = [((name,), counters) for name, counters in self.backends.items() if name != NO_BACKEND]
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


def _tokens(cell: ModelOnBackend) -> Iterator[tuple[tuple[str, str], int]]:
    """Yield the tokens of *cell* by type and by how they were counted."""
    if cell.has_usage:
        yield ("prompt", "reported"), cell.prompt_tokens
        yield ("completion", "reported"), cell.completion_tokens
    if cell.has_estimate:
        yield ("prompt", "estimated"), cell.estimated_prompt_tokens
        yield ("completion", "estimated"), cell.estimated_completion_tokens


def _reason(attempt: AttemptOutcome) -> str:
    """Return why an attempt failed, with the number of a status."""
    if attempt.fault == "status":
        return f"status_{attempt.status}"
    return attempt.fault or attempt.ending
