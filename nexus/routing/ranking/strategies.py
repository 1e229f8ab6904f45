"""The strategies that rank candidates, each with a score, an order of equal scores, and a reason to show."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from random import Random
from time import monotonic
from typing import ClassVar, Final

import msgspec

from nexus.config.schema import WeightsConfig
from nexus.domain.backend import Backend
from nexus.domain.request import Requirements
from nexus.domain.silence import Offer
from nexus.routing.ranking.latency import Latencies, latency_points
from nexus.routing.ranking.scoring import (
    MAX_REMEMBERED_MODELS,
    Ranked,
    Turns,
    load_of,
    load_points,
    random_tie,
    relative_to_shares,
    shares_differ,
)

FULL_WEIGHT: Final = 100
"""In percent: the weight of a score that has only one part."""

ONLY_ONE: Final = "only_healthy_backend"
"""The reason that every strategy gives for a sole candidate."""


class ScorePart(msgspec.Struct, frozen=True):
    """One part of a score."""

    name: str
    """``priority``, ``load``, ``latency``, ``turn`` or ``chance``."""
    value: float | None
    """The configured priority, the requests that the backend is busy with (its own by their size, and those of other
    clients), the expected latency in milliseconds (null: not measured for any candidate), the number of candidates
    whose turn comes before, or the number drawn."""
    points: float
    """Higher is better."""
    weight: int
    """In percent; 100 where the score has only one part."""

    @property
    def adds(self) -> float:
        return self.points if self.weight == FULL_WEIGHT else self.points * self.weight / FULL_WEIGHT


class Strategy(ABC):
    """Scores candidates; the highest score comes first."""

    takes_turns: ClassVar[bool] = False
    """Whether equal scores are ordered by turns, not by chance."""
    divides_by_turns: ClassVar[bool] = False
    """Whether they are ordered by turns where shares differ."""

    def __init__(self, weights: WeightsConfig, chance: Random, clock: Callable[[], float] = monotonic) -> None:
        self._weights = weights
        self._random = chance.random
        self._clock = clock

    @abstractmethod
    def rank(self, offers: Sequence[Offer], model: str, wanted: Requirements) -> list[Ranked]:
        """Score each of *offers*, in their order, without the factors of the stages.

        :param model: the model asked for, after aliases.
        :param wanted: what the request requires.
        """

    @abstractmethod
    def reason(self, backend: Backend, score: float) -> str:
        """Return why *backend*, which has the highest score, is chosen."""

    @abstractmethod
    def parts(self, ranked: Ranked, drawn: float) -> tuple[ScorePart, ...]:
        """Return the parts of the score of *ranked*.

        :param drawn: the score without the factors of the stages.
        """

    def chosen(self, backend: Backend, model: str) -> None:
        """Record that *backend* got a request for *model*; by default, nothing is recorded."""
        del backend, model


class IndependentStrategy(Strategy):
    """A strategy that scores each backend without regard to the others."""

    def rank(self, offers: Sequence[Offer], model: str, wanted: Requirements) -> list[Ranked]:
        del wanted
        ties = self.ties([backend for backend, _ in offers], model)
        return [
            Ranked(backend, own_name, self.score(backend), tie=tie, in_flight=backend.load.everywhere)
            for (backend, own_name), tie in zip(offers, ties, strict=True)
        ]

    @abstractmethod
    def score(self, backend: Backend) -> float:
        """Return the score of *backend*."""

    def ties(self, backends: Sequence[Backend], model: str) -> list[float]:
        """Return the order of equal scores, lowest first: at random, each first as often as its share says."""
        del model
        draw = self._random
        return [random_tie(backend.share, draw()) for backend in backends]


class Smart(Strategy):
    """Priority, load and latency, weighted in percent; equal scores take turns by share and speed."""

    takes_turns = True

    def __init__(self, weights: WeightsConfig, chance: Random, clock: Callable[[], float] = monotonic) -> None:
        super().__init__(weights, chance, clock)
        self._priority, self._load, self._latency = weights.priority, weights.load, weights.latency
        self._latencies = Latencies()
        self._turns = Turns(chance.random)

    def rank(self, offers: Sequence[Offer], model: str, wanted: Requirements) -> list[Ranked]:
        now = self._clock()
        if not offers:
            return []
        if len(offers) == 1:
            # The commonest case in a small fleet: there is nothing to compare with.
            ((backend, own_name),) = offers
            self._turns.skip()
            (busy,), (slots,) = load_of(offers, now)
            return [self._ranked(backend, own_name, 0.0, busy, busy, slots, None, 0.0)]
        by_share = shares_differ(offers)
        requests, capacities = load_of(offers, now)
        relative = relative_to_shares(offers, requests) if by_share else requests
        doublings = self._latencies.expected(offers, model, now, wanted)
        ties = self._turns.ties(offers, model, doublings, by_share=by_share)
        fastest = min(doublings) if doublings else 0.0
        return [
            self._ranked(
                backend,
                own_name,
                ties[at],
                requests[at],
                relative[at],
                capacities[at],
                doublings[at] if doublings else None,
                fastest,
            )
            for at, (backend, own_name) in enumerate(offers)
        ]

    def _ranked(  # noqa: PLR0913 - all that is shown of one candidate
        self,
        backend: Backend,
        own_name: str,
        tie: float,
        busy: float,
        relative: float,
        slots: float | None,
        doublings: float | None,
        fastest: float,
    ) -> Ranked:
        priority = backend.priority
        latency = 100.0 if doublings is None else latency_points(doublings, fastest)
        load = load_points(backend, relative, slots) if relative else 100.0
        points = load * self._load + latency * self._latency
        if priority < 100:
            points += (100 - priority) * self._priority
        in_flight = backend.load.everywhere
        return Ranked(backend, own_name, points / 100, tie, in_flight, busy, load, doublings, latency)

    def reason(self, backend: Backend, score: float) -> str:
        return f"highest_score:{backend.name}:{score:.2f}"

    def parts(self, ranked: Ranked, drawn: float) -> tuple[ScorePart, ...]:
        del drawn
        priority = ranked.backend.priority
        return (
            ScorePart("priority", priority, 100 - min(priority, 100), self._priority),
            ScorePart("load", round(ranked.busy, 2), ranked.load_points, self._load),
            ScorePart("latency", ranked.latency_ms, ranked.latency_points, self._latency),
        )

    def chosen(self, backend: Backend, model: str) -> None:
        if self._turns.costs:
            self._turns.take(backend.name, model)


class RoundRobin(IndependentStrategy):
    """Each backend in turn, by name and separately for each model; where shares differ, by share."""

    takes_turns = True

    def __init__(self, weights: WeightsConfig, chance: Random, clock: Callable[[], float] = monotonic) -> None:
        super().__init__(weights, chance, clock)
        self._last: dict[str, str] = {}
        self._index: dict[str, int] = {}
        self._turns = Turns(chance.random)

    def score(self, backend: Backend) -> float:
        del backend
        return 1.0

    def reason(self, backend: Backend, score: float) -> str:
        del score
        return f"round_robin:index_{self._index.get(backend.name, 0)}"

    def parts(self, ranked: Ranked, drawn: float) -> tuple[ScorePart, ...]:
        return (ScorePart("turn", ranked.tie, drawn, FULL_WEIGHT),)

    def ties(self, backends: Sequence[Backend], model: str) -> list[float]:
        names = sorted(backend.name for backend in backends)
        self._index = {name: index for index, name in enumerate(names)}
        # The turn is kept by name, not by number, so that it survives backends that come and go, and repeated rankings.
        last = self._last.get(model, "")
        turn = next((index for index, name in enumerate(names) if name > last), 0)
        places: list[float] = [(self._index[backend.name] - turn) % len(names) for backend in backends]
        offers = [(backend, model) for backend in backends]
        if not shares_differ(offers):
            self._turns.skip()
            return places
        due = self._turns.ties(offers, model, None, by_share=True)
        order = sorted(range(len(backends)), key=due.__getitem__)
        return [order.index(at) for at in range(len(backends))]

    def chosen(self, backend: Backend, model: str) -> None:
        if len(self._last) >= MAX_REMEMBERED_MODELS:
            self._last.clear()
        self._last[model] = backend.name
        self._turns.take(backend.name, model)


class LeastLoaded(Strategy):
    """The smallest part of its slots, or of its limit, in use; relative to its share where shares differ."""

    divides_by_turns = True

    def __init__(self, weights: WeightsConfig, chance: Random, clock: Callable[[], float] = monotonic) -> None:
        super().__init__(weights, chance, clock)
        self._turns = Turns(chance.random)

    def rank(self, offers: Sequence[Offer], model: str, wanted: Requirements) -> list[Ranked]:
        del wanted
        by_share = shares_differ(offers)
        busy, slots = load_of(offers, self._clock())
        relative = relative_to_shares(offers, busy) if by_share else busy
        ties = self._ties(offers, model, by_share=by_share)
        return [
            Ranked(
                backend,
                own_name,
                load_points(backend, relative[at], slots[at]) / 100 if relative[at] else 1.0,
                ties[at],
                backend.load.everywhere,
                busy[at],
            )
            for at, (backend, own_name) in enumerate(offers)
        ]

    def _ties(self, offers: Sequence[Offer], model: str, *, by_share: bool) -> list[float]:
        """Return turns where shares differ, else chance, by which a backend could not catch up on missed turns."""
        if by_share:
            return self._turns.ties(offers, model, None, by_share=True)
        self._turns.skip()
        draw = self._random
        return [draw() for _ in offers]

    def chosen(self, backend: Backend, model: str) -> None:
        self._turns.take(backend.name, model)

    def reason(self, backend: Backend, score: float) -> str:
        del score
        return f"least_loaded:{backend.name}:{backend.load.everywhere}/{backend.max_in_flight}"

    def parts(self, ranked: Ranked, drawn: float) -> tuple[ScorePart, ...]:
        return (ScorePart("load", round(ranked.busy, 2), drawn, FULL_WEIGHT),)


class PriorityOnly(IndependentStrategy):
    """The lowest configured priority."""

    def score(self, backend: Backend) -> float:
        # 101 and not 100: a score of 0 at the lowest priority would leave nothing for a factor to multiply.
        return 101 - min(backend.priority, 100)

    def reason(self, backend: Backend, score: float) -> str:
        del score
        return f"priority:{backend.name}:{backend.priority}"

    def parts(self, ranked: Ranked, drawn: float) -> tuple[ScorePart, ...]:
        return (ScorePart("priority", ranked.backend.priority, drawn, FULL_WEIGHT),)


class AtRandom(IndependentStrategy):
    """At random, each first as often as its share says."""

    def score(self, backend: Backend) -> float:
        # Each has the highest of these powers with the probability of its share (Efraimidis and Spirakis, 2006).
        return math.pow(self._random(), 1.0 / backend.share)

    def reason(self, backend: Backend, score: float) -> str:
        del score
        return f"random:{backend.name}"

    def parts(self, ranked: Ranked, drawn: float) -> tuple[ScorePart, ...]:
        del ranked
        return (ScorePart("chance", drawn, drawn, FULL_WEIGHT),)


STRATEGIES: Final[Mapping[str, type[Strategy]]] = {
    "smart": Smart,
    "round_robin": RoundRobin,
    "least_loaded": LeastLoaded,
    "priority_only": PriorityOnly,
    "random": AtRandom,
}
"""By their name in ``[routing] strategy``."""
