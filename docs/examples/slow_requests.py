"""Logs requests that took longer than a limit; without a limit, it costs no request anything."""

from collections.abc import Callable
from functools import partial

import structlog

from nexus.api import ExchangeOutcome, PluginConfig, hookimpl

log = structlog.get_logger("nexus.slow_requests")


class SlowConfig(PluginConfig):
    longer_than_seconds: float | None = None


@hookimpl
def nexus_config() -> type[PluginConfig]:
    return SlowConfig


@hookimpl
def nexus_observers(config: SlowConfig) -> list[Callable[[ExchangeOutcome], None]]:
    limit_s = config.longer_than_seconds
    return [] if limit_s is None else [partial(observe, limit_s)]


def observe(limit_s: float, outcome: ExchangeOutcome) -> None:
    if outcome.duration_s > limit_s:
        log.warning("slow_request", request_id=outcome.request_id, took_s=round(outcome.duration_s, 3))
