"""What an engine reports about its own load, at one moment."""

from math import exp
from typing import Final

import msgspec

DECAY_S: Final = 2.0
"""A figure that is overdue loses its weight with exp(-age / ``DECAY_S``), as load changes with every request."""


MIN_WEIGHT: Final = 0.01
"""Below it, a report counts as none."""


class NoReport(ValueError):
    """The page is what it should be, but a server in this mode, or of this version, does not report its load there."""


class EngineReport(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of one server, of all its clients. None: it does not report the figure."""

    at: float
    """Monotonic seconds: when the report was requested."""
    due_at: float
    """Monotonic seconds: when the next report should have arrived."""
    own_requests: int = 0
    """How many requests of this Nexus were in flight there at the time."""
    running: int | None = None
    """Requests that it works on."""
    waiting: int | None = None
    """Requests in its own queue."""
    kv_usage: float | None = None
    """The part of its KV cache that is in use, 0 to 1."""
    slots: int | None = None
    """How many requests it can work on at once."""
    cache_tokens: int | None = None
    """The size of its KV cache, in tokens."""
    started_at: float | None = None
    """Unix seconds: when the server was started."""
    run: str | None = None
    """Names the run of the server's process: another name means that it has restarted."""
    served: float | None = None
    """A counter of its work, which only a restart sets back."""
    loaded: frozenset[str] | None = None
    """The models in memory, by the backend's own names."""
    loading: frozenset[str] = frozenset()
    """The models that it is loading into memory."""
    max_loaded: int | None = None
    """How many models it keeps in memory at once."""

    @property
    def shows_runs(self) -> bool:
        """Whether a restart shows in it."""
        return any(figure is not None for figure in (self.run, self.started_at, self.served))

    def is_after_restart(self, before: "EngineReport") -> bool:
        """Return whether the server has restarted since *before*, as far as the two reports show."""
        return (
            _differ(self.run, before.run)
            or _differ(self.started_at, before.started_at)
            or (self.served is not None and before.served is not None and self.served < before.served)
        )

    @property
    def requests(self) -> int | None:
        """All its requests, running and waiting; None if it reports neither."""
        if self.running is None and self.waiting is None:
            return None
        return (self.running or 0) + (self.waiting or 0)

    def in_words(self, now: float) -> str:
        """Return in one line what it says, how old it is, and how much it counts."""
        shown = [
            f"{count} {state}"
            for count, state in ((self.running, "running"), (self.waiting, "waiting"))
            if count is not None
        ]
        if not shown:
            return (
                f"reported its models in memory, {now - self.at:.1f} s ago, but no requests: only those of Nexus count"
            )
        if self.kv_usage is not None:
            shown.append(f"{self.kv_usage:.0%} of its cache in use")
        said = f"reported {', '.join(shown)}, {now - self.at:.1f} s ago"
        weight = self.weight(now)
        if not weight:
            return f"{said}: too old, only requests of Nexus count"
        return said if weight == 1.0 else f"{said}: overdue, counts {weight:.0%}"

    def weight(self, now: float) -> float:
        """Return the weight of the report at *now*: 1 until the next one is due, then falling to 0."""
        overdue_s = now - self.due_at
        if overdue_s <= 0.0:
            return 1.0
        weight = exp(-overdue_s / DECAY_S)
        return weight if weight >= MIN_WEIGHT else 0.0

    def other_requests(self, now: float) -> float:
        """Return the requests of other clients there, weighed by the age of the report; 0 if it reports none."""
        total = self.requests
        return 0.0 if total is None else max(0, total - self.own_requests) * self.weight(now)


def _differ(now: float | str | None, before: float | str | None) -> bool:
    return now is not None and before is not None and now != before
