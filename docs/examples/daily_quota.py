"""Limits each backend to the daily requests of its subscription, counted across restarts and workers."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, date, datetime
from typing import Any

from nexus.api import (
    Add,
    ConfigError,
    ExchangeOutcome,
    PluginConfig,
    Priority,
    Reconciler,
    RoutingIntent,
    Store,
    StoreError,
    hookimpl,
    tasks,
)


class QuotaConfig(PluginConfig):
    """The ``[plugins.daily_quota]`` table."""

    requests: Mapping[str, int] = {}
    """The daily limit of each backend; a backend that is not listed has no limit."""
    every_seconds: float = 5.0
    """How often this process synchronizes its counts with the store."""
    must_last: bool = False
    """Whether the counts must survive a restart."""


DayAndBackend = tuple[date, str]


class Counts:
    """Lives in the state, so that stage, observer and service share it and reloads keep it."""

    def __init__(self) -> None:
        self.saved: dict[DayAndBackend, int] = {}
        """The total of all workers, when the store was last asked."""
        self.in_transit: Counter[DayAndBackend] = Counter()
        """Being added to the store."""
        self.unsaved: Counter[DayAndBackend] = Counter()
        """Counted by this process since then."""

    def used(self, day: date, backend: str) -> int:
        """Return how often *backend* was asked that day, as far as this process knows."""
        key = (day, backend)
        return self.saved.get(key, 0) + self.in_transit[key] + self.unsaved[key]


class DailyQuota(Reconciler):
    """Excludes backends whose requests of the day are used up."""

    name = "daily-quota"
    priority = Priority.BUDGET + 10
    on_error = "reject"  # requests beyond a quota cost money

    def __init__(self, config: QuotaConfig, counts: Counts) -> None:
        self._config = config
        self._counts = counts

    def reconcile(self, intent: RoutingIntent) -> None:
        day = intent.received_at.date()
        for backend in intent:
            limit = self._config.requests.get(backend.name)
            if limit is not None and self._counts.used(day, backend.name) >= limit:
                reason = f"its {limit} requests of today are used up"
                intent.exclude(backend, stage=self.name, reason=reason, action="Ask again tomorrow")


class Bookkeeper:
    """Adds the counts of this process to the store, and reads the total of all workers."""

    def __init__(self, config: QuotaConfig, counts: Counts, store: Store) -> None:
        self._config = config
        self._counts = counts
        self._store = store

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        await self.exchange()  # before the first request, to include requests before a restart
        task = tasks.keep_running(self._refresh, name="daily-quota")
        try:
            yield
        finally:
            await tasks.stop(task)
            await self.exchange()

    async def _refresh(self) -> None:
        while True:
            await asyncio.sleep(self._config.every_seconds)
            await self.exchange()

    async def exchange(self) -> None:
        """Add new counts to the store, which returns the total of all workers."""
        counts, today = self._counts, datetime.now(UTC).date()
        # Taken before the await: at a reload two services run for a moment, and must not add the same counts.
        new, counts.unsaved = counts.unsaved, Counter()
        counts.in_transit += new
        keys = {(today, backend) for backend in self._config.requests} | new.keys()
        try:
            totals = await self._store.apply([Add(f"daily_quota/{day}/{name}", new[day, name]) for day, name in keys])
            counts.saved = {key: int(total or 0) for key, total in zip(keys, totals, strict=True)}
        except StoreError:
            counts.unsaved += new  # add them next time; of an unknown outcome, counting twice is the safe side
            raise
        finally:
            counts.in_transit -= new


@hookimpl
def nexus_config() -> type[QuotaConfig]:
    return QuotaConfig


@hookimpl
def nexus_reconcilers(config: QuotaConfig, state: dict[str, Any]) -> list[Reconciler]:
    return [DailyQuota(config, counts_of(state))]


@hookimpl
def nexus_exchange_finished(config: QuotaConfig, outcome: ExchangeOutcome, state: dict[str, Any]) -> None:
    day = datetime.fromtimestamp(outcome.received_at, UTC).date()
    limited = (attempt.backend for attempt in outcome.attempts if attempt.backend in config.requests)
    counts_of(state).unsaved.update((day, backend) for backend in limited)


@hookimpl
def nexus_configured(config: QuotaConfig, store: Store) -> None:
    if config.must_last and not store.survives_restart:
        raise ConfigError(
            "the store forgets at a restart what was counted",
            key="must_last",
            hint='set kind = "sqlite" in [store], or "redis" with nexus-proxy-redis',
        )


@hookimpl
def nexus_services(config: QuotaConfig, store: Store, state: dict[str, Any]) -> list[AbstractAsyncContextManager[None]]:
    return [Bookkeeper(config, counts_of(state), store).running()]


def counts_of(state: dict[str, Any]) -> Counts:
    """Return the counts of this process."""
    counts: Counts = state.setdefault("counts", Counts())
    return counts
