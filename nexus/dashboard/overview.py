"""Everything that the dashboard shows, as values for JSON."""

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from nexus.admin.backends.view import BackendView, ModelView, last_seen_of, view_of
from nexus.admin.history import History, HistoryEntry
from nexus.admin.plugins.inventory import PluginRow
from nexus.domain.backend import Backend
from nexus.fleet.fleet import Fleet
from nexus.observability.metrics.timeline import HOUR_STEPS, Figures, Hour, Timeline

MAX_HISTORY: Final = 100
TAIL_STEPS: Final = 2
"""How many steps of the hour are sent each second: the current one, and the last, which may just have ended."""


class Sources(msgspec.Struct, frozen=True):
    """Where the overview has its values from."""

    fleet: Fleet
    timeline: Timeline
    history: History
    plugins: Callable[[], Sequence[PluginRow]]
    status: Callable[[], Mapping[str, Any]]
    """Returns the figures of the whole proxy."""


class Overview:
    """The state of the proxy, its backends and its requests."""

    def __init__(self, sources: Sources) -> None:
        self._fleet = sources.fleet
        self._timeline = sources.timeline
        self._plugins = sources.plugins
        self._status = sources.status
        self._history = sources.history

    def requests_since(self, number: int, most: int) -> tuple[int, list[HistoryEntry]]:
        """Return the number of the newest request, and the requests after *number*, oldest first; see History.after."""
        return self._history.after(number, most)

    async def refresh(self, *, is_whole: bool = False, begins: bool = False) -> None:
        """Learn what other workers have; there are none.

        :param is_whole: whether :meth:`whole` is called next.
        :param begins: whether :meth:`requests_since` is to begin with what ends from now on.
        """

    @property
    def headers(self) -> Mapping[str, str]:
        """Which workers have answered; empty: there are no others."""
        return {}

    def backends(self) -> Sequence[Backend]:
        return self._fleet.snapshot.backends

    def whole(self) -> dict[str, Any]:
        """Return everything."""
        return {
            **self._current_status(),
            "backends": [self._with_models(b) for b in self.backends()],
            "hour": self._hour(HOUR_STEPS),
            "history": self._newest_requests(),
            "plugins": list(self._plugins()),
            "kinds": list(self._fleet.kinds),
        }

    def figures(self) -> dict[str, Any]:
        """Return the values that change all the time."""
        return {
            **self._current_status(),
            "backends": {
                b.name: {
                    "pending_requests": b.load.everywhere,
                    **self._measured(b),
                    "figures": self._figures(b.name),
                    **last_seen_of(self._fleet.origin_of(b.id)),
                }
                for b in self.backends()
            },
            "hour": self._hour(TAIL_STEPS),
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
            "figures": self._figures(backend.name),
        }

    # what several workers have each

    def _current_status(self) -> Mapping[str, Any]:
        return self._status()

    def _measured(self, backend: Backend) -> Mapping[str, Any]:
        return {"total_requests": backend.load.requests_total, "avg_latency_ms": backend.load.latency_ms}

    def _figures(self, backend: str) -> Figures:
        return self._timeline.figures(backend)

    def _hour(self, steps: int) -> Hour:
        return self._timeline.hour(unix_now(), steps=steps)

    def _newest_requests(self) -> list[HistoryEntry]:
        _, history = self.requests_since(0, MAX_HISTORY)
        return list(reversed(history))


def unix_now() -> float:
    """Return the present instant."""
    return time.time()  # noqa: TID251 - an instant to show
