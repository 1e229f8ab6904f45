"""How a stage has behaved: each failure is named in the log and counted, and too many in a row switch it off."""

from collections.abc import Callable, Mapping
from math import inf
from typing import Final

import structlog

from nexus.observability.logging.repeats import Repeats
from nexus.routing.stage.counters import Part, StageTally
from nexus.routing.stage.order import Place

log = structlog.get_logger("nexus.routing")

SLOW_S: Final = 0.05
"""Whoever takes longer keeps every other request waiting. It cannot be interrupted, only named."""
MOST_IN_A_ROW: Final = 5
"""So many failures in a row, or slow answers, switch off a stage that may be skipped."""

PER_REQUEST: Final[frozenset[Part]] = frozenset({"reconcile", "reserve", "settle", "headers", "listen", "cost"})
"""What a stage does for requests; failing at anything else says nothing of these."""

EVENTS: Final[Mapping[Part, str]] = {
    "settle": "hold_not_settled",
    "headers": "hold_without_headers",
    "listen": "hold_without_text",
    "cost": "hold_without_cost",
    "explain": "stage_not_explained",
    "measures": "stage_not_measured",
    "report": "stage_without_report",
}
"""What a failure is called where nothing depends on what the stage has declared."""


class Conduct:
    """The record of one stage, in one configuration."""

    __slots__ = ("_clock", "_once", "_place", "_repeats", "is_off", "streaks", "tally")

    def __init__(self, place: Place, clock: Callable[[], float]) -> None:
        self._place = place
        self._clock = clock
        self._repeats = Repeats()
        self._once = Repeats(inf)
        self.tally = StageTally()
        self.is_off = False
        """Whether it has failed too often in a row, and is left out until the next reload."""
        self.streaks: dict[Part, int] = {}
        """How often in a row it has failed at what; empty as long as all is well."""

    @property
    def rejects(self) -> bool:
        """Whether a request must not go on without it."""
        return self._place.on_error == "reject" and not self._place.observes

    def failed(self, part: Part, exc: BaseException) -> None:
        """Note that it raised, or did what no stage may."""
        self.tally.failures[part] += 1
        event = EVENTS.get(part) or ("stage_failed" if self.rejects else "stage_skipped")
        self._tell(log.error, event, part, error=type(exc).__name__, exc_info=exc)
        self._count(part)

    def took(self, part: Part, seconds: float) -> None:
        """Note that it did its part, and how long that took."""
        if seconds > SLOW_S:
            self.tally.slow[part] += 1
            self._tell(log.warning, "stage_slow", part, took_ms=round(seconds * 1000, 1))
            self._count(part)
        elif self.streaks:
            self.streaks.pop(part, None)

    def _count(self, part: Part) -> None:
        if part not in PER_REQUEST:
            return
        self.streaks[part] = in_a_row = self.streaks.get(part, 0) + 1
        if in_a_row >= MOST_IN_A_ROW and self._place.on_error == "skip" and not self.is_off:
            self.is_off = True
            facts = {"plugin": self._place.plugin, "stage": self._place.name, "part": part}
            log.error("stage_switched_off", **facts, failures_in_a_row=in_a_row)

    def _tell(self, write: Callable[..., object], event: str, part: Part, **facts: object) -> None:
        # Measures are asked for at every scrape, for ever: what is wrong with them is said once.
        repeats = self._once if part == "measures" else self._repeats
        unsaid = repeats.unsaid(event, self._clock())
        if unsaid is not None:
            place = self._place
            write(event, plugin=place.plugin, stage=place.name, part=part, unsaid_before=unsaid, **facts)
