"""One place of the pipeline at work: what a plugin's stage is asked, on an intent of its own, and how it is heard."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeVar

from nexus.containment import is_interrupt
from nexus.domain.backend import Backend
from nexus.domain.measure import Measure
from nexus.domain.outcome import AttemptOutcome
from nexus.domain.request import TokenUsage
from nexus.routing.intent import RoutingIntent
from nexus.routing.stage.api import NO_HEADERS, Hold, Reconciler, Refusal
from nexus.routing.stage.counters import Part, StageTally
from nexus.routing.stage.health import Conduct
from nexus.routing.stage.order import BUILT_IN, Place
from nexus.routing.stage.validate import (
    StageMisbehaved,
    hear,
    let_count,
    sound_cost,
    sound_facts,
    sound_headers,
    sound_refusal,
)

LONGEST_FACTS_BYTES: Final = 16_384
LONGEST_REPORT_BYTES: Final = 262_144
MOST_MEASURES: Final = 100

T = TypeVar("T")


class Stage:
    """A stage, and what has come of it.

    That of a plugin acts on a shadow of the intent; what it said there is checked as a whole, and then counts. So it
    cannot touch what others said, and an intent that it keeps leads nowhere.
    """

    __slots__ = ("_asked", "_clock", "conduct", "place", "reconcile", "reserve", "settle")

    def __init__(self, place: Place, clock: Callable[[], float]) -> None:
        self.place = place
        self.conduct = Conduct(place, clock)
        self._clock = clock
        self._asked = stage = place.reconciler
        self.reconcile: Callable[[RoutingIntent], None] = stage.reconcile
        self.reserve: Callable[[RoutingIntent, Backend], Hold | Refusal | None] = stage.reserve
        self.settle: Callable[[Hold, AttemptOutcome], None] = _settle
        """Give back what it held; a failure of a plugin at that is its own affair."""
        if place.plugin != BUILT_IN:
            self.settle = self._settle
            self.reconcile = self._observe if place.observes else self._reconcile
            self.reserve = self._reserve

    @property
    def tally(self) -> StageTally:
        return self.conduct.tally

    @property
    def is_off(self) -> bool:
        """Whether it has failed too often in a row, and is left out until the next reload."""
        return self.conduct.is_off

    @property
    def holds_something(self) -> bool:
        """Whether it is asked at all before an attempt."""
        return type(self._asked).reserve is not Reconciler.reserve and not self.place.observes

    def failed(self, part: Part, exc: BaseException) -> None:
        """Note that it failed; one that has failed too often is not asked any more."""
        self.conduct.failed(part, exc)
        self._leave_out_when_off()

    def took(self, part: Part, seconds: float) -> None:
        """Note how long it took; one that was slow too often is not asked any more."""
        self.conduct.took(part, seconds)
        self._leave_out_when_off()

    def headers(self, hold: Hold, usage: TokenUsage | None) -> Mapping[str, str]:
        """Return what its hold wants the client told; nothing when that fails."""
        return self._contained("headers", lambda: sound_headers(hold.headers(usage)), NO_HEADERS)

    def listener(self, hold: Hold) -> Callable[[str], None] | None:
        """Return what is to be told the text of the answer; None when nobody listens, or listening fails."""
        tell = self._contained("listen", lambda: hold.listener(), None)  # noqa: PLW0108 - finding it may fail, too
        return None if tell is None else _Listening(self, tell, self._clock)

    def cost_usd(self, hold: Hold) -> float | None:
        """Return what an attempt has cost, once it is settled; None when nobody knows, or saying it fails."""
        return self._contained("cost", lambda: sound_cost(hold.cost_usd()), None)

    def would_refuse(self, intent: RoutingIntent, backend: Backend) -> Refusal | None:
        """Return what :meth:`reserve` would refuse; None when it would not, or when that cannot be said."""

        def refusal() -> Refusal | None:
            refused = self._asked.would_refuse(intent.shadow(), backend)
            return None if refused is None else sound_refusal(refused)

        return self._contained("explain", refusal, None)

    def explain(self, intent: RoutingIntent) -> Mapping[str, Any]:
        """Return the facts on which it judges *intent*, as JSON values; what failed at it, when that fails."""
        stage = self._asked
        return self._contained(
            "explain", lambda: sound_facts(stage.explain(intent.shadow()), LONGEST_FACTS_BYTES), _NOT_SAID
        )

    def measures(self) -> tuple[Measure, ...]:
        """Return what it wants Prometheus told; what it gave before it failed, when that fails."""
        told: list[Measure] = []
        # One by one: what a generator gave before it failed is told.
        self._contained("measures", lambda: told.extend(self._few_measures()), None)
        return tuple(told)

    def _few_measures(self) -> Iterator[Measure]:
        for count, measure in enumerate(self._asked.measures()):
            if count == MOST_MEASURES:
                raise StageMisbehaved(f"gave more than {MOST_MEASURES} measures; the others are left out")
            yield measure

    def report(self) -> Mapping[str, Any]:
        """Return what it wants the figures to show, as JSON values; nothing when that fails."""
        return self._contained("report", lambda: sound_facts(self._asked.report(), LONGEST_REPORT_BYTES), {})

    def _reconcile(self, intent: RoutingIntent) -> None:
        own = intent.shadow()
        if (returned := self._asked.reconcile(own)) is not None:
            raise _returned(returned)
        if own.excluded or own.avoided or own.weights:
            hear(own, intent, self.place.name)
            let_count(own, intent)

    def _observe(self, intent: RoutingIntent) -> None:
        """Record what the stage would have said; it decides nothing."""
        own = intent.shadow()
        _nothing(self._asked.reconcile(own))
        hear(own, intent, self.place.name)
        for verb, said in (("exclude", own.excluded), ("avoid", own.avoided), ("weigh", own.weights)):
            if said:
                self.tally.observed[verb] += len(said)
                intent.observed.extend(said)

    def _settle(self, hold: Hold, outcome: AttemptOutcome) -> None:
        self._contained("settle", lambda: _nothing(hold.settle(outcome)), None)

    def _reserve(self, intent: RoutingIntent, backend: Backend) -> Hold | Refusal | None:
        began = self._clock()
        held: object = self._asked.reserve(intent.shadow(), backend)
        match held:
            case None | Hold():
                pass
            case Refusal():
                held = sound_refusal(held)
            case _:
                raise _returned(held)
        self.took("reserve", self._clock() - began)
        return held

    def _contained(self, part: Part, ask: Callable[[], T], otherwise: T) -> T:
        """Return what *ask* returns; *otherwise* when it fails, which is noted and goes no further."""
        began = self._clock()
        try:
            answer = ask()
        except BaseException as exc:
            if is_interrupt(exc):
                raise
            # Whatever a plugin raises, others must come to theirs.
            self.failed(part, exc)
            return otherwise
        self.took(part, self._clock() - began)
        return answer

    def _leave_out_when_off(self) -> None:
        if self.conduct.is_off:
            self.reconcile, self.reserve = _say_nothing, _hold_nothing


class _Listening:
    """Hands a stage the text of an answer, until it fails at that."""

    __slots__ = ("_clock", "_stage", "_tell")

    def __init__(self, stage: Stage, tell: Callable[[str], object], clock: Callable[[], float]) -> None:
        self._stage = stage
        self._tell: Callable[[str], object] | None = tell
        self._clock = clock

    def __call__(self, text: str) -> None:
        if self._tell is None:
            return
        began = self._clock()
        try:
            self._tell(text)
        except BaseException as exc:
            if is_interrupt(exc):
                raise
            # Whatever a plugin raises, the answer goes on.
            self._tell = None
            self._stage.failed("listen", exc)
        else:
            self._stage.took("listen", self._clock() - began)


_NOT_SAID: Final[Mapping[str, Any]] = {"failed": "the log of Nexus says at what"}


def _nothing(returned: object) -> None:
    """Check that nothing was returned: whoever returns a coroutine believes that somebody awaits it."""
    if returned is not None:
        raise _returned(returned)


def _returned(value: object) -> StageMisbehaved:
    if inspect.iscoroutine(value):
        value.close()
    return StageMisbehaved(f"returned {type(value).__name__}")


def _settle(hold: Hold, outcome: AttemptOutcome) -> None:
    hold.settle(outcome)


def _say_nothing(intent: RoutingIntent) -> None:
    del intent


def _hold_nothing(intent: RoutingIntent, backend: Backend) -> None:
    del intent, backend
