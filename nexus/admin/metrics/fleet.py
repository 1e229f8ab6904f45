"""Metrics of the fleet, read from the snapshot at each scrape."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from time import monotonic

from nexus.domain.backend import Breaker, Status
from nexus.domain.capacity import capacity_now
from nexus.domain.fleet import FleetSnapshot
from nexus.domain.silence import oldest_unanswered_s
from nexus.fleet.loads.counts import ReadCounts
from nexus.fleet.probing.counts import ProbeCounts
from nexus.observability.metrics.exchanges import MAX_MODELS
from nexus.observability.metrics.families import Family, counter, gauge, histogram


class FleetMetrics:
    """Reads the snapshot at each scrape."""

    def __init__(
        self,
        snapshot: Callable[[], FleetSnapshot],
        probes: ProbeCounts,
        reads: ReadCounts,
        found: Callable[[], Mapping[tuple[str, str], int]] = dict,
    ) -> None:
        """:param found: how many servers were discovered, by source and by state of approval."""
        self._snapshot = snapshot
        self._probes = probes
        self._reads = reads
        self._found = found

    def families(self) -> Iterator[Family]:
        """Make the families, one after the other."""
        snapshot = self._snapshot()
        yield from _fleet_families(snapshot)
        yield from _backend_families(snapshot)
        yield from _report_families(snapshot, monotonic())
        yield from self._probe_families()
        yield gauge(
            "nexus_discovered_servers",
            "Servers that announced themselves, by what was decided about them: pending, approved or rejected.",
            {(source, state): count for (source, state), count in sorted(self._found().items())},
            *("source", "state"),
            across="same",
        )

    def _probe_families(self) -> Iterator[Family]:
        yield histogram(
            "nexus_backend_latency_seconds",
            "How long probes took that were answered well.",
            {(name,): latency for name, latency in self._probes.latencies.items()},
            "backend",
            across="same",
        )
        yield counter(
            "nexus_probes",
            "Probes by how they ended: success, unreadable (well, but its list of models is not) or failure.",
            {(name, end): count for name, ends in self._probes.results.items() for end, count in ends.items()},
            *("backend", "result"),
            across="same",
        )
        yield counter(
            "nexus_load_reads",
            "Reads of what engines report about their load, by how they ended: success, unreadable, absent or failure.",
            {(name, end): count for name, ends in self._reads.results.items() for end, count in ends.items()},
            *("backend", "result"),
            across="same",
        )


def _fleet_families(snapshot: FleetSnapshot) -> Iterator[Family]:
    healthy = [backend for backend in snapshot.backends if backend.status is Status.HEALTHY]
    sources = Counter(backend.discovery_source for backend in snapshot.backends)
    yield gauge("nexus_backends_total", "Backends in the fleet.", len(snapshot.backends), across="same")
    yield gauge("nexus_backends_healthy", "Backends that may be given requests.", len(healthy), across="same")
    yield gauge(
        "nexus_backends_by_source",
        "Backends in the fleet by source: static is the configuration, any other a discoverer.",
        {(source,): count for source, count in sorted(sources.items())},
        "source",
        across="same",
    )
    yield gauge(
        "nexus_models_available",
        "Models that a healthy backend has.",
        len({model for backend in healthy for model in backend.models}),
        across="same",
    )
    having = Counter(model for backend in healthy for model in backend.models)
    yield gauge(
        "nexus_model_backends_healthy",
        "Backends that have a model and may be given requests.",
        # An unhealthy backend keeps its models in the snapshot, so a model that no backend can serve now shows 0.
        {(model,): having[model] for model in islice(snapshot.models, MAX_MODELS)},
        "model",
        across="same",
    )


def _report_families(snapshot: FleetSnapshot, now: float) -> Iterator[Family]:
    reports = [(backend.name, report) for backend in snapshot.backends if (report := backend.load.told) is not None]
    yield gauge(
        "nexus_backend_reported_requests",
        "Requests of all clients at a backend, as its engine reports: running, or waiting in its own queue.",
        {
            (name, state): count
            for name, report in reports
            for state, count in (("running", report.running), ("waiting", report.waiting))
            if count is not None
        },
        *("backend", "state"),
        across="same",
    )
    yield gauge(
        "nexus_backend_reported_kv_usage_ratio",
        "The part of its KV cache that a backend's engine reports to be in use.",
        {(name,): report.kv_usage for name, report in reports if report.kv_usage is not None},
        "backend",
        across="same",
    )
    yield gauge(
        "nexus_backend_report_age_seconds",
        "How old the last report of a backend's engine is.",
        {(name,): round(max(0.0, now - report.at), 3) for name, report in reports},
        "backend",
        across="same",
    )
    yield counter(
        "nexus_model_loads",
        "Loads of a model into the memory of a backend that requests have caused.",
        {(backend.name,): backend.load.memory.loads_total for backend in snapshot.backends},
        "backend",
    )
    yield counter(
        "nexus_model_swaps_postponed",
        "Times that requests for a model began to wait because loading it would have evicted one in use.",
        {(backend.name,): backend.load.memory.held_back_total for backend in snapshot.backends},
        "backend",
    )
    yield counter(
        "nexus_backend_restarts",
        "Restarts of a backend's server that were noticed.",
        {(backend.name,): backend.load.restarts for backend in snapshot.backends},
        "backend",
        across="same",
    )


def _backend_families(snapshot: FleetSnapshot) -> Iterator[Family]:
    backends = snapshot.backends
    yield gauge(
        "nexus_pending_requests",
        "Requests under way at a backend.",
        {(backend.name,): backend.load.in_flight for backend in backends},
        "backend",
    )
    yield gauge(
        "nexus_backend_tokens_in_flight",
        "Estimated tokens at a backend: of prompts that it has not read yet, and of answers that it is to give.",
        {
            (backend.name, part): tokens
            for backend in backends
            for part, tokens in (("prompt", backend.load.prompt_tokens), ("answer", backend.load.answer_tokens))
        },
        *("backend", "part"),
    )
    now = monotonic()
    capacities = [(backend, capacity_now(backend, now)[1]) for backend in backends]
    yield gauge(
        "nexus_backend_capacity",
        "Requests that a backend works on at once, by how that is known; of backends where it is known.",
        {
            (backend.name, capacity.source): round(capacity.requests, 1)
            for backend, capacity in capacities
            if capacity.requests is not None
        },
        *("backend", "source"),
        across="max",
    )
    yield gauge(
        "nexus_backend_effective_limit",
        "Requests in flight at a backend from which on further ones wait in the queue.",
        {
            (backend.name,): min(backend.max_in_flight, capacity.held_from or backend.max_in_flight)
            for backend, capacity in capacities
        },
        "backend",
        across="max",
    )
    yield gauge(
        "nexus_backend_oldest_unanswered_seconds",
        "For how long the oldest request has waited at a backend without any content in answer.",
        {(backend.name,): round(oldest_unanswered_s(backend, monotonic()), 3) for backend in backends},
        "backend",
        across="max",
    )
    yield gauge(
        "nexus_backend_max_in_flight",
        "Requests that a backend is given at once.",
        {(backend.name,): backend.max_in_flight for backend in backends},
        "backend",
        across="same",
    )
    yield gauge(
        "nexus_backend_status",
        "1 for the status that a backend has, 0 for the others.",
        {(backend.name, status): int(backend.status is status) for backend in backends for status in Status},
        *("backend", "status"),
        across="same",
    )
    yield gauge(
        "nexus_backend_misconfigured",
        "1 for a backend that refuses its configured key, or whose account cannot pay; 0 for any other.",
        {(backend.name,): int(backend.misconfigured is not None) for backend in backends},
        "backend",
        across="same",
    )
    yield gauge(
        "nexus_breaker_state",
        "1 for the state that a backend's breaker is in, 0 for the others.",
        {(backend.name, state): int(backend.breaker is state) for backend in backends for state in Breaker},
        *("backend", "state"),
        across="same",
    )
    yield gauge(
        "nexus_model_breaker_state",
        "1 for the state that the breaker of a model on a backend is in; of models whose breaker is not closed only.",
        {
            (backend.name, model, state): int(breaker is state)
            for backend in backends
            for model, breaker in backend.model_breakers.items()
            for state in Breaker
        },
        *("backend", "model", "state"),
        across="same",
    )
