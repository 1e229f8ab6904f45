"""Everything that the dashboard shows, as values for JSON."""

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from nexus.domain.backend import Backend
from nexus.domain.fleet import FleetSnapshot
from nexus.observability.metrics.timeline import Timeline

MAX_HISTORY: Final = 100
TAIL_STEPS: Final = 2
"""How many steps of the hour are sent each second: the current one, and the last, which may just have ended."""


class Sources(msgspec.Struct, frozen=True, kw_only=True):
    """Where the values come from; each function is called for each request."""

    snapshot: Callable[[], FleetSnapshot]
    view: Callable[[Backend], Any]
    """Returns a backend as ``/admin/backends`` shows it."""
    last_seen: Callable[[Backend], Mapping[str, Any]]
    """Returns the fields that its discoverer changes."""
    next_probe_at: Callable[[str], float | None]
    """From a backend's id to Unix seconds."""
    timeline: Timeline
    status: Callable[[], Mapping[str, Any]]
    """``status``, ``health``, ``uptime_seconds``, ``in_flight``, ``queue``, ``requests``, ``rejections``,
    ``pending`` and ``budget``."""
    plugins: Callable[[], Sequence[Any]]
    requests_since: Callable[[int, int], tuple[int, Sequence[Any]]]
    """See :meth:`Overview.requests_since`."""
    kinds: Callable[[], Sequence[str]]
    """The kinds that a backend can have."""


class Overview:
    """The state of the proxy, its backends and its requests."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    def backends(self) -> Sequence[Backend]:
        return self._sources.snapshot().backends

    def requests_since(self, number: int, most: int) -> tuple[int, Sequence[Any]]:
        """Return the number of the newest request, and the newest requests after *number*, oldest first."""
        return self._sources.requests_since(number, most)

    def whole(self) -> dict[str, Any]:
        """Return everything."""
        _, history = self._sources.requests_since(0, MAX_HISTORY)
        return {
            **self._sources.status(),
            "backends": [self._with_models(b) for b in self.backends()],
            "hour": self._sources.timeline.hour(_unix_now()),
            "history": list(reversed(history)),
            "plugins": list(self._sources.plugins()),
            "kinds": list(self._sources.kinds()),
        }

    def figures(self) -> dict[str, Any]:
        """Return the values that change all the time."""
        figures = self._sources.timeline.figures
        return {
            **self._sources.status(),
            "backends": {
                b.name: {
                    "pending_requests": b.load.in_flight,
                    "total_requests": b.load.requests_total,
                    "avg_latency_ms": b.load.latency_ms,
                    "figures": figures(b.name),
                    **self._sources.last_seen(b),
                }
                for b in self.backends()
            },
            "hour": self._sources.timeline.hour(_unix_now(), steps=TAIL_STEPS),
        }

    def row(self, backend: Backend) -> dict[str, Any]:
        """Return *backend* without its models, which are long and seldom change."""
        row = self._with_models(backend)
        del row["models"]
        return row

    def models_of(self, backend: Backend) -> Sequence[Any]:
        """Return the models of *backend*."""
        models: Sequence[Any] = self._sources.view(backend).models
        return models

    def _with_models(self, backend: Backend) -> dict[str, Any]:
        at = self._sources.next_probe_at(backend.id)
        return {
            **msgspec.structs.asdict(self._sources.view(backend)),
            "next_check": None if at is None else datetime.fromtimestamp(int(at), UTC),
            "figures": self._sources.timeline.figures(backend.name),
        }


def _unix_now() -> float:
    return time.time()  # noqa: TID251 - an instant to show
