"""The stages in a row: a plain loop over bound methods, with one clock read per stage."""

from collections.abc import Callable, Mapping, Sequence
from time import perf_counter
from typing import Final

import msgspec
import structlog

from nexus.domain.backend import Backend
from nexus.domain.outcome import AttemptOutcome, Ending
from nexus.domain.request import TokenUsage
from nexus.errors import StageFailed
from nexus.routing.intent import RoutingIntent
from nexus.routing.order import Place
from nexus.routing.reconciler import NO_HEADERS, Hold, Reconciler, Refusal

log = structlog.get_logger("nexus.routing")


class Stage:
    """One place of the pipeline, and what has come of it so far: plain counters, which the metrics read."""

    __slots__ = ("excluded_total", "failures_total", "place", "reconcile", "reserve", "runs_total", "seconds_total")

    def __init__(self, place: Place) -> None:
        self.place = place
        place.reconciler.is_observed = place.observes
        self.reconcile = _observing(place) if place.observes else place.reconciler.reconcile
        self.reserve = place.reconciler.reserve
        self.runs_total = 0
        self.seconds_total = 0.0
        self.excluded_total = 0
        self.failures_total = 0

    @property
    def holds_something(self) -> bool:
        """Whether it is asked at all before an attempt."""
        return type(self.place.reconciler).reserve is not Reconciler.reserve and not self.place.observes

    def failed(self, exc: Exception) -> None:
        """Log that it raised, and raise when the request must not go on without it."""
        self.failures_total += 1
        plugin, name = self.place.plugin, self.place.name
        if self.place.reconciler.on_error == "reject" and not self.place.observes:
            log.error("stage_failed", plugin=plugin, stage=name, exc_info=exc)
            raise StageFailed(plugin, name) from exc
        log.error("stage_skipped", plugin=plugin, stage=name, exc_info=exc)


class Pipeline:
    """Every stage, in order. It narrows an intent, and holds what an attempt needs."""

    def __init__(self, places: Sequence[Place], clock: Callable[[], float] = perf_counter) -> None:
        self.stages: Final = tuple(Stage(place) for place in places)
        # The slot, which the last stage holds, is what is refused most often: ask for it first.
        self._holding = tuple(stage for stage in reversed(self.stages) if stage.holds_something)
        self._clock = clock

    def run(self, intent: RoutingIntent) -> None:
        """Let every stage say what it has to say about *intent*.

        :raises StageFailed: a stage failed, and declared that requests are then rejected.
        """
        clock = self._clock
        excluded, avoided, weights = intent.excluded, intent.avoided, intent.weights
        spent_s = intent.spent_s
        before = clock()
        for stage in self.stages:
            marks = len(excluded), len(avoided), len(weights)
            try:
                stage.reconcile(intent)
            except Exception as exc:  # noqa: BLE001 - whatever a plugin raises is answered by what it declared
                intent.forget(*marks)
                stage.failed(exc)
            after = clock()
            spent_s.append(after - before)
            stage.runs_total += 1
            stage.seconds_total += after - before
            stage.excluded_total += len(excluded) - marks[0]
            before = after

    def reserve(self, intent: RoutingIntent, backend: Backend) -> "Reservation | Refused":
        """Hold all that an attempt at *backend* needs, or nothing at all.

        :raises StageFailed: a stage failed, and declared that requests are then rejected.
        """
        reservation = Reservation()
        for stage in self._holding:
            try:
                held = stage.reserve(intent, backend)
            except Exception as exc:  # noqa: BLE001 - as above; what is held already must be given back first
                if stage.place.reconciler.on_error == "reject":
                    reservation.settle(_never_begun(intent, backend))
                stage.failed(exc)
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


class Reservation(Hold):
    """What all stages hold for one attempt, given back exactly once."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held: list[tuple[Stage, Hold]] = []

    def add(self, stage: Stage, hold: Hold) -> None:
        self._held.append((stage, hold))

    def headers(self, usage: TokenUsage | None) -> Mapping[str, str]:
        told = NO_HEADERS
        for stage, hold in self._held:
            if type(hold).headers is Hold.headers:
                continue
            try:
                told = {**told, **hold.headers(usage)}
            except Exception:
                stage.failures_total += 1
                log.exception("hold_without_headers", plugin=stage.place.plugin, stage=stage.place.name)
        return told

    def listener(self) -> Callable[[str], None] | None:
        told = [
            _contained(stage, listener)
            for stage, hold in self._held
            if type(hold).listener is not Hold.listener and (listener := hold.listener()) is not None
        ]
        if len(told) < 2:
            return told[0] if told else None

        def tell(text: str) -> None:
            for listener in told:
                listener(text)

        return tell

    def settle(self, outcome: AttemptOutcome) -> None:
        """Give everything back; a stage that fails at it does not keep the others from theirs."""
        held, self._held = self._held, []
        for stage, hold in held:
            try:
                hold.settle(outcome)
            except Exception:
                stage.failures_total += 1
                log.exception("hold_not_settled", plugin=stage.place.plugin, stage=stage.place.name)


def _contained(stage: Stage, listener: Callable[[str], None]) -> Callable[[str], None]:
    """Return *listener* as one that never raises: a failure is logged once, and then it is told nothing more."""
    is_listening = True

    def tell(text: str) -> None:
        nonlocal is_listening
        if not is_listening:
            return
        try:
            listener(text)
        except Exception:
            is_listening = False
            stage.failures_total += 1
            log.exception("hold_without_text", plugin=stage.place.plugin, stage=stage.place.name)

    return tell


def _observing(place: Place) -> Callable[[RoutingIntent], None]:
    """Return what runs the stage on a shadow of the intent, and records what it would have done."""

    def observe(intent: RoutingIntent) -> None:
        shadow = intent.shadow()
        place.reconciler.reconcile(shadow)
        intent.observed += (*shadow.excluded, *shadow.avoided, *shadow.weights)

    return observe


def _never_begun(intent: RoutingIntent, backend: Backend) -> AttemptOutcome:
    return AttemptOutcome(
        backend=backend.name, backend_id=backend.id, model=intent.resolved_model, ending=Ending.REJECTED
    )
