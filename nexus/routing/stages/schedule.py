"""Who of the survivors gets the request: health, then the strategy's ranking, then a slot."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from random import Random
from typing import Any, Final

from msgspec.structs import force_setattr

from nexus.config.schema import WeightsConfig
from nexus.domain.backend import Backend, BackendLoad, Breaker, Status
from nexus.domain.outcome import AttemptOutcome
from nexus.routing.decision import Ranked
from nexus.routing.intent import RoutingIntent, Verdict
from nexus.routing.reconciler import Hold, Priority, Reconciler, Refusal
from nexus.routing.strategies import ONLY_ONE, STRATEGIES, Strategy

AT_ITS_LIMIT: Final = Refusal(
    "Backend is at its limit", is_saturation=True, action="Try again later, or raise its max_in_flight"
)


class Schedule(Reconciler):
    """Excludes who is not healthy, avoids who has been failing, ranks the rest, and takes the slot."""

    name = "schedule"
    priority = Priority.SCHEDULE

    def __init__(
        self, strategy: str = "smart", weights: WeightsConfig | None = None, chance: Random | None = None
    ) -> None:
        # Chance spreads load; nothing about it is secret.
        self._chance = chance or Random()  # noqa: S311 - see above
        self._strategy_name = strategy
        self._strategy = STRATEGIES[strategy](weights or WeightsConfig(), self._chance)

    @property
    def strategy(self) -> Strategy:
        return self._strategy

    def reconcile(self, intent: RoutingIntent) -> None:
        for backend, _ in intent.offers():
            if backend.status is not Status.HEALTHY:
                intent.exclude(
                    backend,
                    stage=self.name,
                    reason=f"Backend unhealthy: {backend.status.capitalize()}",
                    action="Wait for it to recover, or look at its last error",
                    code="no_healthy_backend",
                )
            elif backend.breaker is not Breaker.CLOSED or backend.is_cooling or backend.misconfigured:
                self._avoid_the_failing(intent, backend)

    def _avoid_the_failing(self, intent: RoutingIntent, backend: Backend) -> None:
        if backend.is_cooling:
            intent.avoid(backend, stage=self.name, reason="Backend asked to be left alone (Retry-After)")
        if backend.misconfigured:
            intent.avoid(backend, stage=self.name, reason=f"Backend is misconfigured: {backend.misconfigured}")
        if backend.breaker is Breaker.OPEN:
            intent.avoid(backend, stage=self.name, reason="Backend has been failing: its breaker is open")
        elif backend.breaker is Breaker.HALF_OPEN and backend.load.probing:
            intent.avoid(backend, stage=self.name, reason="Backend has been failing: one request is trying it")

    def rank(self, intent: RoutingIntent) -> list[Ranked]:
        """Return the candidates, best first; those that a stage wants avoided come after all others."""
        offers = intent.offers()
        if len(offers) == 1:
            # Nobody to compare with: the commonest case in a small fleet, and after the other stages.
            ((backend, model),) = offers
            score, load = self._strategy.score(backend), backend.load
            is_avoided = bool(intent.avoided) and any(verdict.backend == backend.name for verdict in intent.avoided)
            if intent.weights:
                score *= _factors(intent.weights).get(backend.name, 1.0)
            return [Ranked(backend, model, score, is_avoided, 0.0, load.in_flight, load.latency_ms)]
        score_of = self._strategy.score
        scores = [score_of(backend) for backend, _ in offers]
        if intent.weights:
            factors = _factors(intent.weights)
            scores = [s * factors.get(backend.name, 1.0) for s, (backend, _) in zip(scores, offers, strict=True)]
        avoided = {verdict.backend for verdict in intent.avoided} if intent.avoided else ()
        ties = self._strategy.ties([backend for backend, _ in offers], intent.resolved_model)
        order = sorted(
            (backend.name in avoided, -s, tie, position)
            for position, (s, tie, (backend, _)) in enumerate(zip(scores, ties, offers, strict=True))
        )
        return [
            Ranked(*offers[at], -negative, is_avoided, tie, (load := offers[at][0].load).in_flight, load.latency_ms)
            for is_avoided, negative, tie, at in order
        ]

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """Rank inside as the next request would be ranked; afterwards chance goes on as if nobody had asked."""
        state = self._chance.getstate()
        try:
            yield
        finally:
            self._chance.setstate(state)

    def reason(self, chosen: Ranked, choices: int) -> str:
        """Return why *chosen* is the best of so many *choices*."""
        return ONLY_ONE if choices == 1 else self._strategy.reason(chosen.backend, chosen.score)

    def explain(self, intent: RoutingIntent) -> Mapping[str, Any]:
        return {"strategy": self._strategy_name, "backends": {backend.name: _state(backend) for backend in intent}}

    def would_refuse(self, intent: RoutingIntent, backend: Backend) -> Refusal | None:
        del intent
        return AT_ITS_LIMIT if backend.load.in_flight >= backend.max_in_flight else None

    def reserve(self, intent: RoutingIntent, backend: Backend) -> Hold | Refusal | None:
        load = backend.load
        if load.in_flight >= backend.max_in_flight:
            return AT_ITS_LIMIT
        force_setattr(load, "in_flight", load.in_flight + 1)
        # A half-open breaker admits one request. Who comes here while that one is under way has nobody else to ask.
        is_probe = backend.breaker is Breaker.HALF_OPEN and not load.probing
        if is_probe:
            force_setattr(load, "probing", True)  # noqa: FBT003 - the value itself
        self._strategy.chosen(backend, intent.resolved_model)
        return Slot(load, is_probe=is_probe)


def _state(backend: Backend) -> Mapping[str, Any]:
    return {
        "status": backend.status,
        "breaker": backend.breaker,
        "is_cooling": backend.is_cooling,
        "misconfigured": backend.misconfigured,
        "in_flight": backend.load.in_flight,
        "max_in_flight": backend.max_in_flight,
        "latency_ms": backend.load.latency_ms,
    }


class Slot(Hold):
    """One of a backend's slots, given back exactly once."""

    __slots__ = ("_is_probe", "_load")

    def __init__(self, load: BackendLoad, *, is_probe: bool) -> None:
        self._load: BackendLoad | None = load
        self._is_probe = is_probe

    def settle(self, outcome: AttemptOutcome) -> None:
        del outcome
        load, self._load = self._load, None
        if load is None:
            return
        force_setattr(load, "in_flight", load.in_flight - 1)
        if self._is_probe:
            force_setattr(load, "probing", False)  # noqa: FBT003 - the value itself


def _factors(weights: list[Verdict]) -> dict[str, float]:
    factors: dict[str, float] = {}
    for verdict in weights:
        factors[verdict.backend] = factors.get(verdict.backend, 1.0) * verdict.factor
    return factors
