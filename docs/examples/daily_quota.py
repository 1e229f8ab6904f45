"""Gives no backend more requests a day than its subscription has: counts them, also across restarts and workers."""

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
    """By backend, how many requests a day; who is not named has no limit."""
    every_seconds: float = 5.0
    """How often this process and the store tell each other what they have counted."""
    must_last: bool = False
    """Whether a restart must not forget what was counted."""


Tally = tuple[date, str]
"""A day and a backend's name."""


class Counts:
    """Kept in the state, so that stage, observer and service share it and reloads keep it."""

    def __init__(self) -> None:
        self.saved: dict[Tally, int] = {}
        """What all workers together had counted when the store was asked last."""
        self.on_the_way: Counter[Tally] = Counter()
        """What the store has been told and has not answered yet."""
        self.unsaved: Counter[Tally] = Counter()
        """What this process has counted since."""

    def used(self, day: date, backend: str) -> int:
        """Return how often *backend* was asked that day, as far as this process knows."""
        tally = (day, backend)
        return self.saved.get(tally, 0) + self.on_the_way[tally] + self.unsaved[tally]


class DailyQuota(Reconciler):
    """Excludes backends that have answered all that they answer in a day."""

    name = "daily-quota"
    priority = Priority.BUDGET + 10
    on_error = "reject"  # what goes beyond a quota costs money

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
    """Brings what this process counts into the store, and what others count back."""

    def __init__(self, config: QuotaConfig, counts: Counts, store: Store) -> None:
        self._config = config
        self._counts = counts
        self._store = store

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        await self.exchange()  # before the first request: what was used before a restart counts too
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
        """Add what is new to the store; what it answers is the sum of all workers."""
        counts, today = self._counts, datetime.now(UTC).date()
        # Taken before the store is waited for: at a reload two services run for a moment, and none adds it twice.
        new, counts.unsaved = counts.unsaved, Counter()
        counts.on_the_way += new
        tallies = {(today, backend) for backend in self._config.requests} | new.keys()
        try:
            totals = await self._store.apply(
                [Add(f"daily_quota/{day}/{name}", new[day, name]) for day, name in tallies]
            )
            counts.saved = {tally: int(total or 0) for tally, total in zip(tallies, totals, strict=True)}
        except StoreError:
            counts.unsaved += new  # nothing has changed there; the next time adds it
            raise
        finally:
            counts.on_the_way -= new


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
            hint='set kind = "sqlite" in [store]',
        )


@hookimpl
def nexus_services(config: QuotaConfig, store: Store, state: dict[str, Any]) -> list[AbstractAsyncContextManager[None]]:
    return [Bookkeeper(config, counts_of(state), store).running()]


def counts_of(state: dict[str, Any]) -> Counts:
    """Return the counts of this process."""
    counts: Counts = state.setdefault("counts", Counts())
    return counts
