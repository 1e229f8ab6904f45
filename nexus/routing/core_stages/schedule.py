"""The stage that chooses a backend: by health, then by the ranking of the strategy, then by a free slot."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from random import Random
from time import monotonic
from typing import Any, Final, Self

import msgspec

from nexus.config.schema import WeightsConfig
from nexus.domain.backend import Backend, Breaker, Status
from nexus.domain.backend_load import BackendLoad
from nexus.domain.fleet import FleetSnapshot
from nexus.domain.model_load import ModelLoad
from nexus.domain.outcome import AttemptOutcome, Ending
from nexus.domain.request import Requirements, TokenUsage
from nexus.domain.shared_load import Allotment, ask_for_hold, first_short, parts_for, with_hold
from nexus.domain.silence import Offer, silent_s
from nexus.domain.statuses import FIRST_ERROR
from nexus.routing.core_stages.half_open import begin_probing, is_tried
from nexus.routing.core_stages.holding_back import AT_ITS_LIMIT_FOR_MODEL, refusal_for_model
from nexus.routing.core_stages.known_load import load_facts, load_sentence, requests
from nexus.routing.intent import RoutingIntent
from nexus.routing.ranking.candidates import Candidates, RememberedCandidates
from nexus.routing.ranking.judged import factors_of
from nexus.routing.ranking.ranking import Ranking
from nexus.routing.ranking.scoring import Ranked, busy_requests
from nexus.routing.ranking.strategies import ONLY_ONE, STRATEGIES, Strategy
from nexus.routing.stage.api import Hold, Priority, Reconciler, Refusal

AT_ITS_LIMIT: Final = Refusal(
    "Backend is at its limit", is_saturation=True, action="Try again later, or raise its max_in_flight"
)

_FINISHED: Final = Ending.FINISHED
_HEALTHY: Final = Status.HEALTHY
"""Kept here: up to Python 3.11, each look at a member through its class takes as long as a call."""

MIN_LEARNING_FLOOR: Final = 4
"""No capacity below this is learned."""

BUSY_FACTOR: Final = 0.01
"""A backend too busy to answer probes comes after all others, but before one that has been failing."""
SILENT_FACTOR: Final = 0.05
"""A backend that has been silent for longer than answers take comes after the others, but before one that is too busy
to answer probes."""


class Odd(msgspec.Struct, frozen=True):
    """The backends of a snapshot that do not simply get requests, by name."""

    snapshot: FleetSnapshot
    names: tuple[str, ...]
    """All of them, in the order of the fleet."""
    unhealthy: frozenset[str]

    @classmethod
    def of(cls, snapshot: FleetSnapshot) -> Self:
        backends = snapshot.backends
        unhealthy = frozenset(b.name for b in backends if b.status is not _HEALTHY)
        return cls(snapshot, tuple(b.name for b in backends if _is_odd(b)), unhealthy)


def _is_odd(backend: Backend) -> bool:
    return bool(backend.status is not _HEALTHY or backend.misconfigured or backend.is_busy or backend.is_troubled)


class Schedule(Reconciler):
    """Excludes backends that are down, avoids unhealthy and failing ones, weighs silent ones, ranks the rest, and holds
    the slot.
    """

    name = "schedule"
    priority = Priority.SCHEDULE

    def __init__(
        self,
        strategy: str = "smart",
        weights: WeightsConfig | None = None,
        chance: Random | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._chance = chance or Random()  # noqa: S311 - it spreads load, and needs no secrecy
        self._clock = clock
        self._strategy_name = strategy
        self._odd = Odd.of(FleetSnapshot())
        self._candidates = RememberedCandidates()
        self._strategy = STRATEGIES[strategy](weights or WeightsConfig(), self._chance, clock)

    @property
    def strategy(self) -> Strategy:
        return self._strategy

    def reconcile(self, intent: RoutingIntent) -> None:
        for name in self._odd_of(intent.snapshot).names:
            if (offer := intent.survivors.get(name)) is None:
                continue
            backend, model = offer
            if backend.status is not Status.HEALTHY:
                self._judge_unhealthy(intent, backend)
            else:
                self._judge_failing(intent, backend, model)

    def may_judge(self, backend: Backend, model: str) -> bool:
        del model
        return _is_odd(backend)

    def _weigh_silent(self, intent: RoutingIntent, candidates: Candidates) -> None:
        is_stream = intent.requirements.is_stream
        silent = candidates.silent(self._clock(), is_stream=is_stream)
        for backend, model in candidates.offers if silent else ():
            # A server that has restarted since has no figures left, and so is not silent any more.
            figures = backend.load.models.get(model)
            if backend.name in silent and figures is not None:
                unanswered = len(figures.pace(is_stream=is_stream).waiting)
                reason = (
                    f"Backend has been silent for {silent[backend.name]:.0f} s with {requests(unanswered)} waiting,"
                    " longer than answers take"
                )
                intent.weigh(backend, SILENT_FACTOR, stage=self.name, reason=reason)

    def _judge_unhealthy(self, intent: RoutingIntent, backend: Backend) -> None:
        """Exclude a backend that drains, or whose address has no server or another one; avoid any other, because its
        probes may be wrong.
        """
        status = f"Backend unhealthy: {backend.status.capitalize()}"
        if backend.status is Status.DRAINING:
            self._exclude(intent, backend, status, "Wait for it to be put back into service, or use another model")
        elif backend.is_refusing:
            action = "Start it: it is used again as soon as it listens"
            self._exclude(intent, backend, f"{status}, nothing listens at its address", action)
        elif backend.is_replaced:
            action = "See what is at its address now: until that is approved, it gets no request"
            self._exclude(intent, backend, f"{status}, another server is at its address", action)
        else:
            action = "Wait for it to recover, or look at its last error"
            intent.avoid(backend, stage=self.name, reason=f"{status}, it is a last resort", action=action)

    def _exclude(self, intent: RoutingIntent, backend: Backend, reason: str, action: str) -> None:
        intent.exclude(backend, stage=self.name, reason=reason, action=action, code="no_healthy_backend")

    def _judge_failing(self, intent: RoutingIntent, backend: Backend, model: str) -> None:
        if backend.is_busy:
            reason = "Backend is busy: it left a probe unanswered while requests were running"
            intent.weigh(backend, BUSY_FACTOR, stage=self.name, reason=reason)
        if backend.is_cooling_for(model):
            intent.avoid(backend, stage=self.name, reason="Backend asked clients to wait (Retry-After)")
        if backend.misconfigured:
            intent.avoid(backend, stage=self.name, reason=f"Backend is misconfigured: {backend.misconfigured}")
        breaker = backend.breaker_of(model)
        if breaker is Breaker.OPEN:
            intent.avoid(backend, stage=self.name, reason="Backend has been failing: its breaker is open")
        elif breaker is Breaker.HALF_OPEN and is_tried(backend, model):
            intent.avoid(backend, stage=self.name, reason="Backend has been failing: one request is trying it")

    def rank(self, intent: RoutingIntent) -> Sequence[Ranked]:
        """Return the candidates, best first: avoided ones come after all others, and unhealthy ones come last.

        Silent ones are weighed here, as that changes while the fleet does not.
        """
        offers = [*intent.survivors.values()]
        if len(offers) == 1:
            return (self._sole(intent, offers[0]),)
        candidates = self._candidates.of(offers, intent.resolved_model)
        self._weigh_silent(intent, candidates)
        scores = self._strategy.rank(candidates, intent.resolved_model, intent.requirements)
        unhealthy = self._odd_of(intent.snapshot).unhealthy
        if not (intent.weights or intent.avoided or unhealthy):
            return Ranking(scores)
        return Ranking(scores, candidates.judgement.of(intent.weights, intent.avoided, unhealthy, candidates.places))

    def _sole(self, intent: RoutingIntent, offer: Offer) -> Ranked:
        """Return the only candidate, whose score is for people."""
        sole = self._strategy.rank_one(offer, intent.resolved_model, intent.requirements)
        if not (intent.weights or intent.avoided):
            return sole
        name = sole.backend.name
        score = sole.score * factors_of(intent.weights).get(name, 1.0)
        is_avoided = any(verdict.backend == name for verdict in intent.avoided)
        return msgspec.structs.replace(sole, score=score, is_avoided=is_avoided)

    def _odd_of(self, snapshot: FleetSnapshot) -> "Odd":
        if snapshot is not self._odd.snapshot:
            self._odd = Odd.of(snapshot)
        return self._odd

    @contextmanager
    def chance_restored(self) -> Iterator[None]:
        """Restore the state of the random numbers on exit, so that explaining a request does not affect the next."""
        state = self._chance.getstate()
        try:
            yield
        finally:
            self._chance.setstate(state)

    def reason(self, chosen: Ranked, choices: int) -> str:
        """Return why *chosen* comes first.

        :param choices: the number of candidates.
        """
        if chosen.backend.status is not _HEALTHY:
            return f"last_resort:{chosen.backend.name}:{chosen.backend.status}"
        return ONLY_ONE if choices == 1 else self._strategy.reason(chosen.backend, chosen.score)

    def explain(self, intent: RoutingIntent) -> Mapping[str, Any]:
        now, is_stream = self._clock(), intent.requirements.is_stream
        offers = intent.offers()
        busy = busy_requests(offers, now)
        states = {
            backend.name: _state(backend, model, busy[at], now, is_stream=is_stream)
            for at, (backend, model) in enumerate(offers)
        }
        return {"strategy": self._strategy_name, "backends": states}

    def describe(self, intent: RoutingIntent) -> Mapping[str, str]:
        now, offers = self._clock(), intent.offers()
        busy = busy_requests(offers, now)
        return {
            backend.name: load_sentence(backend, model, busy[at], now) for at, (backend, model) in enumerate(offers)
        }

    def would_refuse(self, intent: RoutingIntent, backend: Backend) -> Refusal | None:
        if not backend.load.has_slot(backend.max_in_flight):
            return AT_ITS_LIMIT
        if intent.endpoint.capability == "keep":
            return None
        model = intent.model_on(backend)
        return refusal_for_model(intent, backend, model, backend.load.models.get(model), self._clock())

    def reserve(self, intent: RoutingIntent, backend: Backend) -> Hold | Refusal | None:
        load = backend.load
        in_flight = load.in_flight
        if in_flight >= backend.max_in_flight:
            return AT_ITS_LIMIT
        divided: tuple[Allotment, ...] = ()
        if load.allotments:
            divided = parts_for(load.allotments, intent.survivors[backend.name][1])
            if (short := first_short(divided)) is not None:
                return AT_ITS_LIMIT_FOR_MODEL if short.model else AT_ITS_LIMIT
        figures, prompt_tokens, answer_tokens = None, 0, 0
        capability = intent.endpoint.capability
        if capability != "keep":
            model = intent.survivors[backend.name][1]
            figures = load.models.get(model) or load.model(model)
            if (load.everywhere or load.allotments) and (
                refusal := refusal_for_model(intent, backend, model, figures, self._clock())
            ) is not None:
                if load.allotments:
                    ask_for_hold(load.allotments, model)
                return refusal
            divided = with_hold(load.allotments, divided, model) if load.allotments else divided
            prompt_tokens, answer_tokens = figures.size.expected(intent.requirements, is_chat=capability == "chat")
            figures.in_flight += 1
        load.acquire(prompt_tokens, answer_tokens)
        probed: tuple[BackendLoad | ModelLoad, ...] = ()
        if backend.is_troubled:
            probed = begin_probing(backend, intent.model_on(backend))
        self._strategy.chosen(backend, intent.resolved_model)
        slot = Slot(load, figures, intent.requirements, prompt_tokens, answer_tokens, probed)
        if divided:
            slot.divide(divided)
        if in_flight >= MIN_LEARNING_FLOOR and not (backend.is_limited or backend.slots_are_reported):
            slot.learn_capacity(load.everywhere, max(MIN_LEARNING_FLOOR, backend.kind.default_slots or 0))
        return slot


def _state(backend: Backend, model: str, busy: float, now: float, *, is_stream: bool) -> Mapping[str, Any]:
    figures = backend.load.models.get(model)
    return {
        "status": backend.status,
        "misconfigured": backend.misconfigured,
        "is_busy": backend.is_busy,
        "is_refusing": backend.is_refusing,
        "is_replaced": backend.is_replaced,
        "breaker": backend.breaker_of(model),
        "is_cooling": backend.is_cooling_for(model),
        **load_facts(backend, model, busy, now),
        "latency_ms": backend.load.latency_ms,
        "first_token_ms": None if figures is None else figures.first_token.mean_ms(),
        "whole_answer_ms": None if figures is None else figures.whole.mean_ms(),
        "silent_s": 0.0 if figures is None else round(silent_s(backend, figures, now, is_stream=is_stream), 3),
    }


class Slot(Hold):
    """One of a backend's slots and the tokens of a request, given back exactly once."""

    __slots__ = (
        "_answer_tokens",
        "_capacity_floor",
        "_divided",
        "_figures",
        "_in_flight",
        "_is_measured",
        "_load",
        "_probed",
        "_prompt_tokens",
        "_wanted",
    )

    def __init__(  # noqa: PLR0913 - all that is held
        self,
        load: BackendLoad,
        figures: ModelLoad | None,
        wanted: Requirements,
        prompt_tokens: int,
        answer_tokens: int,
        probed: tuple[BackendLoad | ModelLoad, ...] = (),
    ) -> None:
        """:param figures: those of the model; None if the request asks none.
        :param probed: the loads of the half-open breakers that only this request tries.
        """
        self._load: BackendLoad | None = load
        self._figures = figures
        self._wanted = wanted
        self._prompt_tokens = prompt_tokens
        self._answer_tokens = answer_tokens
        self._probed = probed
        self._in_flight = self._capacity_floor = 0
        self._divided: tuple[Allotment, ...] = ()
        self._is_measured = False
        """Whether the length of the prompt has been learned."""

    def learn_capacity(self, in_flight: int, floor: int) -> None:
        """Learn how many requests the backend works on at once from the time to first token of this one.

        :param in_flight: the requests in flight, with this one.
        :param floor: the least that it can be.
        """
        self._in_flight, self._capacity_floor = in_flight, floor

    def divide(self, divided: tuple[Allotment, ...]) -> None:
        """Hold a slot of each of *divided*, too, which processes divide among themselves."""
        self._divided = divided
        for part in divided:
            part.take()

    def begin_answer(self, usage: TokenUsage | None) -> None:
        if self._load is None:
            return
        self._load.finish_prompt(self._prompt_tokens)
        self._prompt_tokens = 0
        if usage is not None and usage.prompt_tokens and self._figures is not None:
            self._is_measured = True
            self._figures.size.learn(self._wanted, usage, has_prompt=True, has_answer=False)

    def settle(self, outcome: AttemptOutcome) -> None:
        load, self._load = self._load, None
        if load is None:
            return
        load.release(self._answer_tokens, self._prompt_tokens)
        for part in self._divided:
            part.release()
        figures = self._figures
        if figures is not None:
            figures.in_flight -= 1
            usage = outcome.usage if outcome is not None else None
            if usage is not None and outcome.ending is _FINISHED:
                has_prompt, has_answer = not self._is_measured, self._answer_tokens > 0
                figures.size.learn(self._wanted, usage, has_prompt=has_prompt, has_answer=has_answer)
            if self._in_flight and outcome is not None:
                self._learn_capacity(figures, outcome)
        for tried in self._probed:
            tried.end_probing()

    def _learn_capacity(self, figures: ModelLoad, outcome: AttemptOutcome) -> None:
        is_good = outcome.ending is _FINISHED and outcome.fault is None and (outcome.status or 0) < FIRST_ERROR
        if is_good and outcome.is_stream and outcome.first_byte_s is not None and outcome.load_s is None:
            figures.learned.observe(
                outcome.first_byte_s, self._wanted.prompt_tokens, self._in_flight, self._capacity_floor
            )


def route_reason(intent: RoutingIntent, ranked: Ranked, *, is_failover: bool, is_overflow: bool) -> str:
    """Return the word for the ``X-Nexus-Route-Reason`` header."""
    if ranked.backend.status is not _HEALTHY:
        return "last-resort"
    if is_failover:
        return "failover"
    if intent.excluded and any(verdict.stage == "privacy" for verdict in intent.excluded):
        return "privacy-requirement"
    return "capacity-overflow" if is_overflow else "capability-match"
