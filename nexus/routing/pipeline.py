"""The stages in a row: a plain loop over bound methods, with one clock read per stage."""

from collections.abc import Callable, Mapping, Sequence
from time import perf_counter
from typing import Final

import msgspec

from nexus.containment import is_interrupt
from nexus.domain.backend import Backend
from nexus.domain.outcome import AttemptOutcome, Ending
from nexus.domain.request import TokenUsage
from nexus.errors import StageFailed
from nexus.routing.intent import RoutingIntent, Verdict
from nexus.routing.stage.api import NO_HEADERS, Hold, Refusal
from nexus.routing.stage.counters import PipelineTally
from nexus.routing.stage.health import SLOW_S
from nexus.routing.stage.order import BUILT_IN, Place
from nexus.routing.stage.runner import Stage


class Pipeline:
    """Every stage, in order. It narrows an intent, and holds what an attempt needs."""

    def __init__(self, places: Sequence[Place], clock: Callable[[], float] = perf_counter) -> None:
        self.stages: Final = tuple(Stage(place, clock) for place in places)
        # The slot, which the last stage holds, is what is refused most often: ask for it first.
        self._holding = tuple(stage for stage in reversed(self.stages) if stage.holds_something)
        self._clock = clock
        self.tally = PipelineTally()
        self.tally.stages.update({stage.place.name: stage.tally for stage in self.stages})

    def follow(self, before: "Pipeline") -> None:
        """Take the place of *before*: go on counting from where that one has got to."""
        self.tally = before.tally
        for stage in self.stages:
            stage.conduct.tally = self.tally.stages.setdefault(stage.place.name, stage.tally)

    def run(self, intent: RoutingIntent) -> None:
        """Let every stage say what it has to say about *intent*.

        :raises StageFailed: a stage failed, and declared that requests are then rejected.
        """
        clock = self._clock
        excluded, spent_s = intent.excluded, intent.spent_s
        began = before = clock()
        for stage in self.stages:
            conduct, said_before = stage.conduct, len(excluded)
            try:
                stage.reconcile(intent)
            except BaseException as exc:
                if is_interrupt(exc):
                    raise
                stage.failed("reconcile", exc)
                if conduct.rejects:
                    raise StageFailed(stage.place.plugin, stage.place.name) from exc
                after = clock()
                took_s = after - before
            else:
                after = clock()
                took_s = after - before
                if conduct.streaks or took_s > SLOW_S:
                    stage.took("reconcile", took_s)
            spent_s.append(took_s)
            tally = conduct.tally
            tally.durations.observe(took_s)
            if len(excluded) != said_before:
                tally.exclusions_total += len(excluded) - said_before
            before = after
        self.tally.durations.observe(before - began)

    def reserve(self, intent: RoutingIntent, backend: Backend) -> "Reservation | Refused":
        """Hold all that an attempt at *backend* needs, or nothing at all.

        :raises StageFailed: a stage failed, and declared that requests are then rejected.
        """
        reservation = Reservation()
        for stage in self._holding:
            try:
                held = stage.reserve(intent, backend)
            except BaseException as exc:
                if is_interrupt(exc):
                    raise
                stage.failed("reserve", exc)
                if stage.conduct.rejects:
                    reservation.settle(_never_begun(intent, backend))
                    raise StageFailed(stage.place.plugin, stage.place.name) from exc
                continue
            if isinstance(held, Refusal):
                reservation.settle(_never_begun(intent, backend))
                return Refused(stage.place.name, held)
            if held is not None:
                reservation.add(stage, held)
        return reservation


class Refused(msgspec.Struct, frozen=True):
    """A stage could not hold what an attempt needs."""

    stage: str
    refusal: Refusal

    def about(self, backend: Backend) -> Verdict:
        """Return what it says of *backend*."""
        refusal = self.refusal
        return Verdict(backend.name, self.stage, refusal.reason, refusal.action, context=refusal.context)


class Reservation(Hold):
    """What all stages hold for one attempt, given back exactly once."""

    __slots__ = ("_cost_usd", "_held", "_of_plugins")

    def __init__(self) -> None:
        self._held: list[tuple[Stage, Hold]] = []
        self._of_plugins: list[tuple[Stage, Hold]] = []
        """Those that may have something to tell; what is built in has not."""
        self._cost_usd: float | None = None

    def add(self, stage: Stage, hold: Hold) -> None:
        self._held.append((stage, hold))
        if stage.place.plugin != BUILT_IN:
            self._of_plugins.append((stage, hold))

    def headers(self, usage: TokenUsage | None) -> Mapping[str, str]:
        if not self._of_plugins:
            return NO_HEADERS
        told: dict[str, str] = {}
        for stage, hold in self._of_plugins:
            if type(hold).headers is not Hold.headers:
                told = {**stage.headers(hold, usage), **told}
        return told

    def listener(self) -> Callable[[str], None] | None:
        if not self._of_plugins:
            return None
        listening = [
            listener
            for stage, hold in self._of_plugins
            if type(hold).listener is not Hold.listener and (listener := stage.listener(hold)) is not None
        ]
        if len(listening) <= 1:
            return listening[0] if listening else None

        def tell(text: str) -> None:
            for listener in listening:
                listener(text)

        return tell

    def settle(self, outcome: AttemptOutcome) -> None:
        """Give everything back; a stage that fails at it does not keep the others from theirs."""
        held, self._held = self._held, []
        for stage, hold in held:
            stage.settle(hold, outcome)
        for stage, hold in self._of_plugins if held else ():
            if type(hold).cost_usd is not Hold.cost_usd and (cost := stage.cost_usd(hold)) is not None:
                self._cost_usd = cost + (self._cost_usd or 0.0)

    def cost_usd(self) -> float | None:
        return self._cost_usd


def _never_begun(intent: RoutingIntent, backend: Backend) -> AttemptOutcome:
    return AttemptOutcome(
        backend=backend.name, backend_id=backend.id, model=intent.resolved_model, ending=Ending.REJECTED
    )
