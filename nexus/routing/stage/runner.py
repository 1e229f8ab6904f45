"""Runs one stage: calls it on a shadow of the intent, validates what it returns, and contains its failures."""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

from nexus.containment import is_interrupt
from nexus.domain.backend import Backend
from nexus.domain.fleet import FleetSnapshot
from nexus.domain.measure import Measure
from nexus.domain.outcome import AttemptOutcome
from nexus.domain.request import Requirements, TokenUsage
from nexus.routing.intent import RoutingIntent
from nexus.routing.stage.api import NO_HEADERS, Fact, Hold, Reconciler, Refusal
from nexus.routing.stage.counters import StageCall, StageCounters
from nexus.routing.stage.health import SLOW_S, StageHealth
from nexus.routing.stage.order import BUILT_IN, Place
from nexus.routing.stage.validate import (
    StageMisbehaved,
    merge,
    valid_cost,
    valid_facts,
    valid_headers,
    valid_refusal,
    valid_sentences,
    validate,
)

MAX_FACTS_BYTES: Final = 16_384
MAX_FACTS_BYTES_PER_CANDIDATE: Final = 1024
"""Beyond the first 16 candidates."""
MAX_SENTENCE_CHARACTERS: Final = 500
MAX_REPORT_BYTES: Final = 262_144
MAX_MEASURES: Final = 100

T = TypeVar("T")


class Stage:
    """A stage of the pipeline, with its health.

    A plugin's stage acts on a shadow of the intent; its verdicts are validated together and then merged. So it cannot
    change the verdicts of others, and an intent that it keeps has no effect.
    """

    __slots__ = (
        "_clock",
        "_forget",
        "_is_quiet",
        "_reconciler",
        "can_rest",
        "counts",
        "facts",
        "has_versions",
        "health",
        "is_built_in",
        "is_choosy",
        "is_idle",
        "is_remembered",
        "place",
        "reconcile",
        "reserve",
        "version",
        "wants_marks",
    )

    def __init__(
        self,
        place: Place,
        clock: Callable[[], float],
        policies: Sequence[Mapping[str, Any]] | None = None,
        forget: Callable[[], None] = lambda: None,
    ) -> None:
        """:param policies: the keys of each traffic policy, by plugin; None: not known, so that it is not idle.
        :param forget: drops what is remembered of its verdicts, when it is switched off.
        """
        self.place = place
        self._forget = forget
        self.health = StageHealth(place, clock)
        self._clock = clock
        self._reconciler = stage = place.reconciler
        self.reconcile: Callable[[RoutingIntent], None] = stage.reconcile
        self.reserve: Callable[[RoutingIntent, Backend], Hold | Refusal | None] = stage.reserve
        self.is_built_in: Final = place.plugin == BUILT_IN
        if not self.is_built_in:
            self.reconcile = self._observe if place.observes else self._reconcile
            self.reserve = self._reserve
        self.version: Callable[[FleetSnapshot], int] = stage.version
        """Returns the version of its verdicts; it may raise anything."""
        kind = type(stage)
        self._is_quiet = stage.is_quiet if kind.is_quiet is not Reconciler.is_quiet else None
        self.can_rest: Final = self._is_quiet is not None
        """Whether it says of each request if it has anything to decide."""
        self.counts: Final = kind.count is not Reconciler.count
        """Whether it counts its verdicts."""
        self.facts: Final[frozenset[Fact]] = stage.depends_on or frozenset()
        """What its verdicts depend on, if they are remembered."""
        self.is_remembered: Final = stage.depends_on is not None and not place.observes
        """Whether its verdicts are remembered until the fleet changes."""
        self.has_versions: Final = kind.version is not Reconciler.version
        """Whether its remembered verdicts may change while the fleet does not."""
        self.is_choosy: Final = kind.may_judge is not Reconciler.may_judge and not place.observes
        """Whether it says which candidates it may judge."""
        self.wants_marks: Final = stage.wants_prompt_blocks
        """Whether it decides by the marks of prompts, so that it is not called for a request that has none."""
        self.is_idle: Final = policies is not None and self._says(lambda: stage.is_idle(policies), default=False)
        """Whether it is not called for requests without hints."""

    @property
    def counters(self) -> StageCounters:
        return self.health.counters

    @property
    def is_off(self) -> bool:
        """Whether it has failed too often in a row, and is skipped until the next reload."""
        return self.health.is_off

    def is_spared(self, requirements: Requirements) -> bool:
        """Whether it is not called for a request with *requirements* and without hints."""
        return self.is_idle or (self.wants_marks and not (requirements.prompt_blocks or requirements.conversation))

    @property
    def holds_something(self) -> bool:
        """Whether it is called before an attempt."""
        return type(self._reconciler).reserve is not Reconciler.reserve and not self.place.observes

    def failed(self, call: StageCall, exc: BaseException) -> None:
        """Record a failure; after too many, the stage is skipped."""
        self.health.failed(call, exc)
        self._skip_when_off()

    def took(self, call: StageCall, seconds: float) -> None:
        """Record the duration of a call; after too many slow ones, the stage is skipped."""
        self.health.took(call, seconds)
        self._skip_when_off()

    def begin_answer(self, hold: Hold, usage: TokenUsage | None) -> None:
        """Note for *hold* that the answer has begun; a failure is only logged."""
        self._contained("begin_answer", lambda: hold.begin_answer(usage), None)

    def headers(self, hold: Hold, usage: TokenUsage | None) -> Mapping[str, str]:
        """Return the response headers of *hold*; none when that fails."""
        return self._contained("headers", lambda: valid_headers(hold.headers(usage)), NO_HEADERS)

    def listener(self, hold: Hold) -> Callable[[str], None] | None:
        """Return the listener of *hold* to the text of the answer; None when it has none, or that fails."""
        listen = self._contained("listen", lambda: hold.listener(), None)  # noqa: PLW0108 - the lookup may fail, too
        return None if listen is None else _Listener(self, listen, self._clock)

    def cost_usd(self, hold: Hold) -> float | None:
        """Return the cost of a settled attempt; None when it is unknown, or that fails."""
        return self._contained("cost", lambda: valid_cost(hold.cost_usd()), None)

    def would_refuse(self, intent: RoutingIntent, backend: Backend) -> Refusal | None:
        """Return the refusal that :meth:`reserve` would give; None when it would not refuse, or that fails."""

        def refusal() -> Refusal | None:
            refused = self._reconciler.would_refuse(intent.shadow(), backend)
            return None if refused is None else valid_refusal(refused)

        return self._contained("explain", refusal, None)

    def explain(self, intent: RoutingIntent) -> Mapping[str, Any]:
        """Return the facts by which it judges *intent*, as JSON values; a reference to the log when that fails."""
        max_bytes = max(MAX_FACTS_BYTES, MAX_FACTS_BYTES_PER_CANDIDATE * len(intent.survivors))
        return self._contained(
            "explain", lambda: valid_facts(self._reconciler.explain(intent.shadow()), max_bytes), _SEE_LOG
        )

    def describe(self, intent: RoutingIntent) -> Mapping[str, str]:
        """Return its sentence about each candidate, by name; empty when that fails."""

        def sentences() -> Mapping[str, str]:
            return valid_sentences(self._reconciler.describe(intent.shadow()), MAX_SENTENCE_CHARACTERS)

        return self._contained("explain", sentences, {})

    def measures(self) -> tuple[Measure, ...]:
        """Return its measures for Prometheus; when that fails, those before the failure."""
        measures: list[Measure] = []
        self._contained("measures", lambda: measures.extend(self._limited_measures()), None)
        return tuple(measures)

    def _limited_measures(self) -> Iterator[Measure]:
        for count, measure in enumerate(self._reconciler.measures()):
            if count == MAX_MEASURES:
                raise StageMisbehaved(f"gave more than {MAX_MEASURES} measures; the others are left out")
            yield measure

    def report(self) -> Mapping[str, Any]:
        """Return its report for ``/v1/stats``, as JSON values; empty when that fails."""
        return self._contained("report", lambda: valid_facts(self._reconciler.report(), MAX_REPORT_BYTES), {})

    def may_judge_any(self, offers: Iterable[tuple[Backend, str]]) -> bool:
        """Return whether it may give a verdict on one of the backends, each for a model; true when that fails."""
        may_judge = self._reconciler.may_judge
        return self._says(lambda: any(may_judge(backend, model) for backend, model in offers), default=True)

    def may_count(self, intent: RoutingIntent) -> bool:
        """Return whether it may count anything for requests that are judged like *intent*; true when that fails."""
        return self.counts and self._says(lambda: self._reconciler.may_count(intent.shadow()), default=True)

    def may_hold(self, backend: Backend, model: str) -> bool:
        """Return whether it may hold anything for an attempt at *backend*; true when that fails."""
        if type(self._reconciler).may_hold is Reconciler.may_hold:
            return not self.is_idle
        return self._says(lambda: self._reconciler.may_hold(backend, model), default=True)

    def _says(self, claim: Callable[[], bool], *, default: bool) -> bool:
        """Return what the stage claims; *default* when that fails, or is no bool."""
        said: object = self._contained("declare", claim, default)
        return said if isinstance(said, bool) else default

    def count(self, own: RoutingIntent) -> None:
        """Let it count its verdicts on *own*, its shadow of an intent; a failure is only logged."""
        self._tell("count", self._reconciler.count, own)

    def is_resting(self, intent: RoutingIntent) -> bool:
        """Whether it says that it has nothing to decide; False when that fails, as it is then called."""
        try:
            return self._rests(intent)
        except BaseException as exc:
            if is_interrupt(exc):
                raise
            return False

    def _rests(self, intent: RoutingIntent) -> bool:
        """Whether it says that it has nothing to decide; raises whatever the stage raises."""
        is_quiet = self._is_quiet
        return is_quiet is not None and not intent.headers and is_quiet(intent.snapshot, intent.requirements) is True

    def _reconcile(self, intent: RoutingIntent) -> None:
        if self.can_rest and self._rests(intent):
            return
        own = intent.shadow()
        if (returned := self._reconciler.reconcile(own)) is not None:
            raise _returned(returned)
        if own.excluded or own.avoided or own.weights:
            validate(own, intent, self.place.name)
            merge(own, intent)
        if self.counts:
            self.count(own)

    def _observe(self, intent: RoutingIntent) -> None:
        """Record the verdicts of the stage without merging them."""
        if self.can_rest and self._rests(intent):
            return
        own = intent.shadow()
        _check_none(self._reconciler.reconcile(own))
        validate(own, intent, self.place.name)
        for verb, verdicts in (("exclude", own.excluded), ("avoid", own.avoided), ("weigh", own.weights)):
            if verdicts:
                self.counters.observed[verb] += len(verdicts)
                intent.observed.extend(verdicts)
        if self.counts:
            self.count(own)

    def settle(self, hold: Hold, outcome: AttemptOutcome) -> None:
        """Give back the *hold* of a plugin's stage; a failure is only logged."""
        self._tell("settle", hold.settle, outcome)

    def _tell(self, call: StageCall, function: Callable[[T], object], what: T) -> None:
        """Call *function*, which has nothing to return; a failure is only logged."""
        # As _contained(), written out: this is done for each request.
        began = self._clock()
        try:
            if (returned := function(what)) is not None:
                raise _returned(returned)  # noqa: TRY301 - one way to fail
        except BaseException as exc:
            if is_interrupt(exc):
                raise
            self.failed(call, exc)
            return
        took_s = self._clock() - began
        if self.health.streaks or took_s > SLOW_S:
            self.took(call, took_s)

    def _reserve(self, intent: RoutingIntent, backend: Backend) -> Hold | Refusal | None:
        if self.can_rest and self._rests(intent):
            return None
        began = self._clock()
        held: object = self._reconciler.reserve(intent.shadow(), backend)
        match held:
            case None | Hold():
                pass
            case Refusal():
                held = valid_refusal(held)
            case _:
                raise _returned(held)
        took_s = self._clock() - began
        if self.health.streaks or took_s > SLOW_S:
            self.took("reserve", took_s)
        return held

    def _contained(self, call: StageCall, function: Callable[[], T], default: T) -> T:
        """Return what *function* returns; *default* when it raises, which is recorded as a failure of the stage."""
        began = self._clock()
        try:
            result = function()
        except BaseException as exc:
            if is_interrupt(exc):
                raise
            self.failed(call, exc)
            return default
        took_s = self._clock() - began
        if self.health.streaks or took_s > SLOW_S:
            self.took(call, took_s)
        return result

    def _skip_when_off(self) -> None:
        if self.health.is_off:
            self.reconcile, self.reserve = _skip_reconcile, _skip_reserve
            self._forget()


class _Listener:
    """Passes the text of an answer to a stage until the stage fails."""

    __slots__ = ("_clock", "_listen", "_stage")

    def __init__(self, stage: Stage, listen: Callable[[str], object], clock: Callable[[], float]) -> None:
        self._stage = stage
        self._listen: Callable[[str], object] | None = listen
        self._clock = clock

    def __call__(self, text: str) -> None:
        if self._listen is None:
            return
        began = self._clock()
        try:
            self._listen(text)
        except BaseException as exc:
            if is_interrupt(exc):
                raise
            self._listen = None
            self._stage.failed("listen", exc)
        else:
            self._stage.took("listen", self._clock() - began)


_SEE_LOG: Final[Mapping[str, Any]] = {"failed": "see the log of Nexus"}


def _check_none(returned: object) -> None:
    """Refuse a return value, such as the coroutine of an async method, which is never awaited."""
    if returned is not None:
        raise _returned(returned)


def _returned(value: object) -> StageMisbehaved:
    if inspect.iscoroutine(value):
        value.close()
    return StageMisbehaved(f"returned {type(value).__name__}")


def _skip_reconcile(intent: RoutingIntent) -> None:
    del intent


def _skip_reserve(intent: RoutingIntent, backend: Backend) -> None:
    del intent, backend
