"""Metrics of the proxy itself: requests, the queue, connections, the event loop."""

import platform
from collections.abc import Callable, Iterator
from typing import Any

from nexus import __version__
from nexus.domain.priorities import RANKS
from nexus.observability.logging import logs
from nexus.observability.metrics.families import Family, counter, gauge, histogram
from nexus.observability.metrics.histogram import Histogram
from nexus.observability.tracing.trace import TraceCounts
from nexus.proxy.exchange.context import DataPlane
from nexus.proxy.upstream.backends import Upstreams
from nexus.proxy.waiting.request_queue import RequestQueue


class ProxyMetrics:
    """Reads the data plane."""

    def __init__(
        self,
        plane: DataPlane,
        *,
        clients: Callable[[], int],
        is_reload_rejected: Callable[[], bool],
        loop_lags: Histogram,
        traced: TraceCounts | None = None,
    ) -> None:
        """:param clients: returns how many connections clients have open.
        :param is_reload_rejected: whether the last reload was refused.
        :param traced: the counts of exported traces; None without tracing.
        """
        self._plane = plane
        self._clients = clients
        self._is_reload_rejected = is_reload_rejected
        self._loop_lags = loop_lags
        self._traced = traced

    def families(self) -> Iterator[Family]:
        """Make the families, one after the other."""
        yield gauge(
            "nexus_build_info",
            "Always 1; the versions are in its labels.",
            {(__version__, platform.python_version()): 1},
            *("version", "python"),
            across="same",
        )
        yield gauge(
            "nexus_requests_in_flight",
            "Requests under way, from their first byte to the last of their answer, those that wait among them.",
            self._plane.in_flight,
        )
        yield gauge("nexus_client_connections", "Connections that clients have open.", self._clients())
        yield gauge(
            "nexus_config_reload_rejected",
            "1 while the previous configuration stays in force, because the last reload was refused.",
            int(self._is_reload_rejected()),
            across="max",
        )
        yield counter(
            "nexus_early_heads",
            "Streams whose head was sent while the backend was still loading the model.",
            self._plane.early_heads,
        )
        yield from _queue_families(self._plane.queue)
        yield from _connection_families(self._plane.upstreams)
        yield histogram(
            "nexus_event_loop_lag_seconds",
            "By how much the event loop was late: all that runs on it then waits as long.",
            self._loop_lags,
        )
        yield counter(
            "nexus_log_lines_dropped",
            "Log lines that found the queue of the writer full, or could not be written.",
            logs.dropped(),
        )
        if self._traced is not None:
            yield _trace_family(self._traced)


def _trace_family(traced: TraceCounts) -> Family:
    return counter(
        "nexus_traces",
        "Exchanges whose spans were exported, were refused by the collector, or were dropped because it is too slow.",
        {("exported",): traced.exported, ("failed",): traced.failed, ("dropped",): traced.dropped},
        "result",
    )


def _queue_families(line: "RequestQueue[Any]") -> Iterator[Family]:
    counts = line.counts
    yield gauge("nexus_queue_depth", "Requests that wait for a slot.", len(line))
    yield gauge("nexus_queue_max_size", "Requests that may wait at once.", line.max_size)
    yield counter("nexus_queue_enqueued", "Requests that have begun to wait.", counts.enqueued)
    yield counter("nexus_queue_drained", "Requests that have waited and were given a slot.", counts.drained)
    yield counter("nexus_queue_timeout", "Requests that have waited for too long.", counts.timed_out)
    yield counter("nexus_queue_shed", "Requests that left a full queue to make room for another.", counts.shed)
    yield counter("nexus_queue_refused", "Requests that found the queue full and did not wait.", counts.refused)
    yield gauge(
        "nexus_queue_requests",
        "Requests that wait for a slot, by priority.",
        {(priority,): line.line.by_rank[rank] for priority, rank in RANKS.items()},
        "priority",
    )
    yield gauge(
        "nexus_queue_oldest_seconds",
        "How long the oldest request that waits has waited.",
        line.oldest_s(),
        across="max",
    )
    yield gauge(
        "nexus_queue_served_per_second",
        "Requests that a backend has taken from the queue per second lately, while some waited for it.",
        {(backend,): rate for backend, rate in line.rates().items()},
        "backend",
    )
    yield gauge("nexus_queue_body_bytes", "The size of the bodies of all requests that wait.", line.line.size_bytes)
    yield counter(
        "nexus_queue_left",
        "Requests that stopped waiting, because the client left or no backend could serve them any more.",
        counts.left,
    )
    yield histogram("nexus_queue_wait_seconds", "How long requests have waited, however it ended.", counts.waits)


def _connection_families(upstreams: Upstreams) -> Iterator[Family]:
    counts = {(name,): counted for name, counted in upstreams.counts.items()}
    yield gauge(
        "nexus_upstream_connections",
        "Connections to a backend that are open, idle ones included.",
        {key: counted.open for key, counted in counts.items()},
        "backend",
    )
    yield counter(
        "nexus_upstream_connections_opened",
        "Connections made to a backend.",
        {key: counted.opened for key, counted in counts.items()},
        "backend",
    )
    yield counter(
        "nexus_upstream_connections_reused",
        "Requests that found an idle connection to a backend.",
        {key: counted.reused for key, counted in counts.items()},
        "backend",
    )
