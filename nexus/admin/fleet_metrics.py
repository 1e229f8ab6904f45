"""What Prometheus is told of the fleet and of Nexus itself, read at the moment in which it asks."""

from collections.abc import Callable, Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from nexus.domain.backend import Breaker, Status
from nexus.domain.fleet import FleetSnapshot


class FleetMetrics(Collector):
    """Reads the snapshot: there is nothing to keep up to date between two scrapes."""

    def __init__(
        self,
        snapshot: Callable[[], FleetSnapshot],
        connections: Callable[[], Mapping[str, tuple[int, int]]],
        waiting: Callable[[], int],
        dropped_lines: Callable[[], int],
    ) -> None:
        """Read later from these.

        :param connections: by backend, how many connections were opened, and how often one was reused.
        :param waiting: how many requests wait for a slot.
        :param dropped_lines: how many log lines found no place.
        """
        self._snapshot = snapshot
        self._connections = connections
        self._waiting = waiting
        self._dropped_lines = dropped_lines

    def collect(self) -> Iterator[Metric]:
        """Make the metrics, for Prometheus's client library."""
        snapshot = self._snapshot()
        healthy = [backend for backend in snapshot.backends if backend.status is Status.HEALTHY]
        models = {model for backend in healthy for model in backend.models}
        yield GaugeMetricFamily("nexus_backends_total", "Backends in the fleet.", value=len(snapshot.backends))
        yield GaugeMetricFamily("nexus_backends_healthy", "Backends that may be given requests.", value=len(healthy))
        yield GaugeMetricFamily("nexus_models_available", "Models that a healthy backend has.", value=len(models))
        yield GaugeMetricFamily("nexus_queue_depth", "Requests that wait for a slot.", value=self._waiting())
        pending = GaugeMetricFamily("nexus_pending_requests", "Requests under way at a backend.", labels=["backend"])
        closed = GaugeMetricFamily("nexus_breaker_closed", "1 while a backend's breaker is closed.", labels=["backend"])
        for backend in snapshot.backends:
            pending.add_metric([backend.name], backend.load.in_flight)
            closed.add_metric([backend.name], float(backend.breaker is Breaker.CLOSED))
        yield pending
        yield closed
        yield from self._connection_counters()
        dropped = CounterMetricFamily("nexus_log_lines_dropped", "Log lines that found the queue of the writer full.")
        dropped.add_metric([], self._dropped_lines())
        yield dropped

    def _connection_counters(self) -> Iterator[Metric]:
        opened = CounterMetricFamily(
            "nexus_upstream_connections_opened", "Connections made to a backend.", labels=["backend"]
        )
        reused = CounterMetricFamily(
            "nexus_upstream_connections_reused", "Requests that found an idle connection.", labels=["backend"]
        )
        for backend, (opened_total, reused_total) in sorted(self._connections().items()):
            opened.add_metric([backend], opened_total)
            reused.add_metric([backend], reused_total)
        yield opened
        yield reused
