"""Everything that the dashboard shows, as values for JSON."""

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from nexus.admin.backends.view import BackendView, ModelView, last_seen_of, view_of
from nexus.admin.history import History
from nexus.admin.plugins.inventory import PluginRow
from nexus.domain.backend import Backend
from nexus.fleet.fleet import Fleet
from nexus.observability.metrics.timeline import Timeline

MAX_HISTORY: Final = 100
TAIL_STEPS: Final = 2
"""How many steps of the hour are sent each second: the current one, and the last, which may just have ended."""


class Overview:
    """The state of the proxy, its backends and its requests."""

    def __init__(
        self,
        fleet: Fleet,
        timeline: Timeline,
        history: History,
        plugins: Callable[[], Sequence[PluginRow]],
        status: Callable[[], Mapping[str, Any]],
    ) -> None:
        """:param status: returns the figures of the whole proxy."""
        self._fleet = fleet
        self._timeline = timeline
        self._plugins = plugins
        self._status = status
        self.requests_since: Final = history.after

    def backends(self) -> Sequence[Backend]:
        return self._fleet.snapshot.backends

    def whole(self) -> dict[str, Any]:
        """Return everything."""
        _, history = self.requests_since(0, MAX_HISTORY)
        return {
            **self._status(),
            "backends": [self._with_models(b) for b in self.backends()],
            "hour": self._timeline.hour(_unix_now()),
            "history": list(reversed(history)),
            "plugins": list(self._plugins()),
            "kinds": list(self._fleet.kinds),
        }

    def figures(self) -> dict[str, Any]:
        """Return the values that change all the time."""
        figures = self._timeline.figures
        return {
            **self._status(),
            "backends": {
                b.name: {
                    "pending_requests": b.load.everywhere,
                    "total_requests": b.load.requests_total,
                    "avg_latency_ms": b.load.latency_ms,
                    "figures": figures(b.name),
                    **last_seen_of(self._fleet.origin_of(b.id)),
                }
                for b in self.backends()
            },
            "hour": self._timeline.hour(_unix_now(), steps=TAIL_STEPS),
        }

    def row(self, backend: Backend) -> dict[str, Any]:
        """Return *backend* without its models, which are long and seldom change."""
        row = self._with_models(backend)
        del row["models"]
        return row

    def models_of(self, backend: Backend) -> Sequence[ModelView]:
        """Return the models of *backend*."""
        return self._view(backend).models

    def _view(self, backend: Backend) -> BackendView:
        return view_of(backend, self._fleet.origin_of(backend.id))

    def _with_models(self, backend: Backend) -> dict[str, Any]:
        at = self._fleet.next_probe_at(backend.id)
        return {
            **msgspec.structs.asdict(self._view(backend)),
            "next_check": None if at is None else datetime.fromtimestamp(int(at), UTC),
            "figures": self._timeline.figures(backend.name),
        }


def _unix_now() -> float:
    return time.time()  # noqa: TID251 - an instant to show
