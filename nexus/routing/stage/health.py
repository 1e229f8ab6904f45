"""Counts and logs the failures of a stage, and switches it off after too many in a row."""

from collections.abc import Callable, Mapping
from math import inf
from typing import Final

import structlog

from nexus.observability.logging.repeats import Repeats
from nexus.routing.stage.counters import StageCall, StageCounters
from nexus.routing.stage.order import Place

log = structlog.get_logger("nexus.routing")

SLOW_S: Final = 0.05
"""A slower call keeps all other requests waiting. It cannot be interrupted, so it is logged."""
MAX_FAILURES_IN_A_ROW: Final = 5
"""After as many failures or slow calls in a row, a stage that may be skipped is switched off."""

PER_REQUEST: Final[frozenset[StageCall]] = frozenset(
    {"reconcile", "reserve", "begin_answer", "settle", "headers", "listen", "cost"}
)
"""Calls that serve requests; failures of the others do not switch off a stage."""

EVENTS: Final[Mapping[StageCall, str]] = {
    "begin_answer": "hold_not_begun",
    "settle": "hold_not_settled",
    "headers": "hold_without_headers",
    "listen": "hold_without_text",
    "cost": "hold_without_cost",
    "declare": "stage_undeclared",
    "count": "stage_not_counted",
    "explain": "stage_not_explained",
    "measures": "stage_not_measured",
    "report": "stage_without_report",
}
"""The log event of a failure that never rejects the request."""


class StageHealth:
    """The failures of one stage, in one configuration."""

    __slots__ = ("_clock", "_once", "_place", "_repeats", "counters", "is_off", "streaks")

    def __init__(self, place: Place, clock: Callable[[], float]) -> None:
        self._place = place
        self._clock = clock
        self._repeats = Repeats()
        self._once = Repeats(inf)
        self.counters = StageCounters()
        self.is_off = False
        """Whether it has failed too often in a row, and is skipped until the next reload."""
        self.streaks: dict[StageCall, int] = {}
        """Failures in a row, by call; empty while all goes well."""

    @property
    def rejects(self) -> bool:
        """Whether a failure of the stage rejects the request."""
        return self._place.on_error == "reject" and not self._place.observes

    def failed(self, call: StageCall, exc: BaseException) -> None:
        """Record that a call raised *exc* or returned something invalid."""
        self.counters.failures[call] += 1
        event = EVENTS.get(call) or ("stage_failed" if self.rejects else "stage_skipped")
        self._log(log.error, event, call, error=type(exc).__name__, exc_info=exc)
        self._count(call)

    def took(self, call: StageCall, seconds: float) -> None:
        """Record that a call succeeded, and how long it took."""
        if seconds > SLOW_S:
            self.counters.slow[call] += 1
            self._log(log.warning, "stage_slow", call, took_ms=round(seconds * 1000, 1))
            self._count(call)
        elif self.streaks:
            self.streaks.pop(call, None)

    def _count(self, call: StageCall) -> None:
        if call not in PER_REQUEST:
            return
        self.streaks[call] = in_a_row = self.streaks.get(call, 0) + 1
        if in_a_row >= MAX_FAILURES_IN_A_ROW and self._place.on_error == "skip" and not self.is_off:
            self.is_off = True
            facts = {"plugin": self._place.plugin, "stage": self._place.name, "part": call}
            log.error("stage_switched_off", **facts, failures_in_a_row=in_a_row)

    def _log(self, write: Callable[..., object], event: str, call: StageCall, **facts: object) -> None:
        # Measures are collected at every scrape, so their failures are logged only once.
        repeats = self._once if call == "measures" else self._repeats
        unsaid = repeats.unsaid(event, self._clock())
        if unsaid is not None:
            place = self._place
            write(event, plugin=place.plugin, stage=place.name, part=call, unsaid_before=unsaid, **facts)
