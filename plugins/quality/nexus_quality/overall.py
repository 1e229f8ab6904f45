"""The figures of one backend over all its models, for its row in ``/v1/stats``."""

from collections.abc import Mapping
from typing import Final

from nexus_quality.hourly_mean import HOUR
from nexus_quality.windows import RollingWindow

MINUTE_S: Final = 60.0
DAY: Final = 48
"""In half hours."""
MINUTES_OF_TICK: Final = 30


class Overall:
    """Counts the attempts at all models of one backend together."""

    __slots__ = ("_day", "_first_tokens", "_hour", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        """The backend's name."""
        self._hour = RollingWindow(HOUR)
        self._day = RollingWindow(DAY)
        self._first_tokens = RollingWindow(HOUR)

    def record(self, failed: bool | None, first_token_ms: int | None, minute: int) -> None:
        """Record one attempt, see :mod:`nexus_quality.evidence`."""
        if first_token_ms is not None:
            self._first_tokens.add(first_token_ms, minute)
        if failed is not None:
            self._hour.add(failed, minute)
            self._day.add(failed, minute // MINUTES_OF_TICK)

    def add_good(self, count: int, begun: int, waited_ms: int, minute: int) -> None:
        """Record *count* successes, of which *begun* are streams with these times to first token together."""
        self._hour.add(0, minute, count)
        self._day.add(0, minute // MINUTES_OF_TICK, count)
        if begun:
            self._first_tokens.add(waited_ms, minute, begun)

    def facts(self, now_s: float) -> Mapping[str, float | int]:
        """Return the figures that are known."""
        minute = int(now_s // MINUTE_S)
        hour, day, first_tokens = self._hour, self._day, self._first_tokens
        hour.move_to(minute)
        day.move_to(minute // MINUTES_OF_TICK)
        first_tokens.move_to(minute)
        facts: dict[str, float | int] = {}
        if day.count:
            facts["error_rate_1h"] = round(hour.total / hour.count, 4) if hour.count else 0.0
            facts["success_rate_24h"] = round(1.0 - day.total / day.count, 4)
            facts["request_count_1h"] = hour.count
        if first_tokens.count:
            facts["avg_ttft_ms"] = first_tokens.total // first_tokens.count
        return facts
