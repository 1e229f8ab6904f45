"""Sets up metrics, history and traces, and observes every exchange with them."""

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

from nexus import tasks
from nexus.admin.history import History
from nexus.admin.metrics.fleet import FleetMetrics
from nexus.admin.metrics.loop_lag import LoopLag
from nexus.admin.metrics.page import TOPIC as METRICS
from nexus.admin.metrics.page import MetricsPage
from nexus.admin.metrics.proxy import ProxyMetrics
from nexus.admin.metrics.stages import StageMetrics
from nexus.admin.metrics.store import store_families
from nexus.admin.stats import TOTALS
from nexus.admin.workers import ALONE, Workers
from nexus.app.composition.blueprint import Blueprint
from nexus.app.composition.tracing import Tracing
from nexus.config.schema import MetricsConfig
from nexus.domain.fleet import FleetSnapshot
from nexus.fleet.fleet import Fleet
from nexus.observability.metrics.exchanges import ExchangeMetrics
from nexus.observability.metrics.families import Family
from nexus.observability.metrics.process import process_families
from nexus.observability.metrics.recent_rejections import RecentRejections
from nexus.observability.metrics.timeline import Timeline
from nexus.observability.metrics.totals import totals_of
from nexus.proxy.exchange.context import DataPlane, Observer
from nexus.routing.pipeline import Pipeline
from nexus.store.watched import WatchedStore
from nexus.wire.protocols import EVERY
from nexus.workers.peers import Peers

EMBEDDING_ENDPOINTS: Final = frozenset(e.name for e in EVERY if e.capability == "embeddings")


class Telemetry:
    """Metrics, history and traces; reloads do not reset them."""

    def __init__(self, snapshot: Callable[[], FleetSnapshot]) -> None:
        self.metrics = ExchangeMetrics(snapshot, embedding_endpoints=EMBEDDING_ENDPOINTS)
        self.history = History()
        self.timeline = Timeline()
        self.rejections = RecentRejections()
        self._snapshot = snapshot
        self._loop_lag = LoopLag()
        self._one_scrape_at_a_time = asyncio.Lock()
        self._sources: tuple[Callable[[], Iterator[Family]], ...] = ()
        self._tracing: Tracing | None = None
        self._stage_metrics: StageMetrics
        self._measuring: asyncio.Task[None]

    def begin(  # noqa: PLR0913 - all that it reads from
        self,
        *,
        fleet: Fleet,
        plane: DataPlane,
        blueprint: Callable[[], Blueprint],
        clients: Callable[[], int],
        is_reload_rejected: Callable[[], bool],
        store: WatchedStore,
    ) -> None:
        """Start to measure.

        :param blueprint: returns the one in force.
        :param clients: returns how many connections clients have open.
        :param is_reload_rejected: returns whether the last reload was refused.
        """
        loaded = blueprint().loaded
        if loaded.config.otel.enabled:
            self._tracing = Tracing(loaded)
            plane.tracer = self._tracing.tracer
        of_fleet = FleetMetrics(self._snapshot, fleet.probe_counts, fleet.read_counts, lambda: fleet.found_counts)
        of_proxy = ProxyMetrics(
            plane,
            clients=clients,
            is_reload_rejected=is_reload_rejected,
            loop_lags=self._loop_lag.lags,
            traced=None if self._tracing is None else self._tracing.counts,
        )
        of_store = partial(store_families, store)
        own = self.metrics.families, of_fleet.families, of_proxy.families, of_store, process_families
        self._stage_metrics = StageMetrics(
            lambda: blueprint().router.pipeline,
            lambda: blueprint().contributions.plugins,
            (family for make in own for family in make()),
        )
        self._sources = (*own, self._stage_metrics.families)
        self._measuring = tasks.keep_running(self._loop_lag.watch, name="loop-lag")

    def follow(self, before: Pipeline, after: Pipeline) -> None:
        """Let the counters of the stages in *after* continue those in *before*."""
        self._stage_metrics.follow(before, after)

    async def end(self) -> None:
        """Stop measuring, and flush the traces."""
        await tasks.stop(self._measuring)
        if self._tracing is not None:
            await self._tracing.close()

    def observers(self, blueprint: Blueprint) -> tuple[Observer, ...]:
        """Return the observers of each exchange under *blueprint*, those of plugins last."""
        self.metrics.configured_models = configured_models(blueprint)
        self.metrics.count_pairs(times=blueprint.config.metrics.pair_histograms)
        own = (self.metrics, self.history, self.timeline, self.rejections)
        return (*(observer.observe for observer in own), *blueprint.observers)

    def metrics_page(
        self, config: MetricsConfig, peers: Peers | None = None, workers: Callable[[], Workers] = lambda: ALONE
    ) -> MetricsPage:
        """Return the page of all metrics, those of *peers* among them."""
        return MetricsPage(
            self._sources,
            sanitizes_labels=config.sanitize_labels,
            one_at_a_time=self._one_scrape_at_a_time,
            peers=peers,
            workers=workers,
        )

    async def leave(self, peers: Peers) -> None:
        """Let the sums of all workers keep what this one, which ends, has counted."""
        peers.leave(METRICS, await self.metrics_page(MetricsConfig()).part())
        peers.leave(TOTALS, totals_of(self.metrics))


def configured_models(blueprint: Blueprint) -> frozenset[str]:
    """Return every model name in the configuration: aliases, fallbacks and their targets."""
    routing = blueprint.config.routing
    aliases = blueprint.router.names.naming.aliases
    return frozenset(aliases).union(*aliases.values(), routing.fallbacks, *routing.fallbacks.values())
