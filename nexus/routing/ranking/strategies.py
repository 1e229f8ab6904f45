"""The strategies that rank candidates, each with a score, an order of equal scores, and a reason to show."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from operator import gt, mul, sub
from random import Random
from time import monotonic
from typing import ClassVar, Final

import msgspec

from nexus.config.schema import WeightsConfig
from nexus.domain.backend import Backend
from nexus.domain.request import Requirements
from nexus.domain.silence import Offer
from nexus.routing.ranking.candidates import Candidates, certain_slots
from nexus.routing.ranking.latency import FREE_DOUBLINGS, Latencies, latency_points
from nexus.routing.ranking.ranking import ListedScores, Scores
from nexus.routing.ranking.scoring import (
    MAX_REMEMBERED_MODELS,
    Ranked,
    Turn,
    Turns,
    load_of,
    load_points,
    random_tie,
    relative_to_shares,
    with_guesses,
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
    def rank(self, candidates: Candidates, model: str, wanted: Requirements) -> Scores:
        """Score each of *candidates*, in their order, without the factors of the stages.

        :param model: the model asked for, after aliases.
        :param wanted: what the request requires.
        """

    def rank_one(self, offer: Offer, model: str, wanted: Requirements) -> Ranked:
        """Score a sole candidate."""
        scores = self.rank(Candidates((offer,)), model, wanted)
        return scores.ranked(0, scores.points[0], is_avoided=False)

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

    def rank(self, candidates: Candidates, model: str, wanted: Requirements) -> Scores:
        del wanted
        offers = candidates.offers
        ties = self.ties([backend for backend, _ in offers], model)
        return ListedScores(
            [
                Ranked(backend, own_name, self.score(backend), tie=tie, in_flight=backend.load.everywhere)
                for (backend, own_name), tie in zip(offers, ties, strict=True)
            ]
        )

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

    def rank(self, candidates: Candidates, model: str, wanted: Requirements) -> Scores:
        offers = candidates.offers
        if not offers:
            return ListedScores(())
        now, in_flight = self._clock(), candidates.in_flight()
        busy, slots = load_of(candidates, now, in_flight)
        relative = relative_to_shares(offers, busy) if candidates.by_share else busy
        doublings = self._latencies.expected(candidates, model, now, wanted)
        turn = self._turns.begin(candidates, model, doublings)
        points = self._points(candidates, relative, slots, turn)
        return SmartScores(points, in_flight, busy, relative, slots, turn)

    def rank_one(self, offer: Offer, model: str, wanted: Requirements) -> Ranked:
        del model, wanted
        self._turns.last = None
        backend, own_name = offer
        now = self._clock()
        busy = _busy_requests_of_one(offer, now)
        load = load_points(backend, busy, _slots_of_one(offer, now)) if busy else 100.0
        points = load * self._load + 100.0 * self._latency
        if backend.priority < 100:
            points += (100 - backend.priority) * self._priority
        return Ranked(backend, own_name, points / 100, 0.0, backend.load.everywhere, busy, load)

    def _points(
        self, candidates: Candidates, relative: Sequence[float], slots: Sequence[float | None], turn: Turn
    ) -> Sequence[float]:
        """Return the score of each candidate.

        :param relative: the requests that it is busy with, relative to its share where shares differ.
        """
        weight, by_latency, doublings = self._load, self._latency, turn.doublings
        if candidates.kept is None:
            candidates.kept = (
                [weight + by_latency + points * self._priority / 100 for points in candidates.priorities],
                [weight / 100 * fall / until if until else 0.0 for until, fall in candidates.declines],
            )
        points, slopes = candidates.kept
        if any(relative):
            # Mostly, all points fall evenly: then a hundred are computed in C.
            if slots is candidates.slots and not any(map(gt, relative, candidates.knees)):
                points = list(map(sub, points, map(mul, slopes, relative)))
            else:
                points = [
                    best - weight * (100.0 - load_points(candidates.offers[at][0], requests, slots[at])) / 100
                    for at, (best, requests) in enumerate(zip(points, relative, strict=True))
                ]
        if doublings is None or max(doublings) - turn.fastest <= FREE_DOUBLINGS:
            return points
        fastest = turn.fastest
        return [
            best - by_latency * (100.0 - latency_points(doubling, fastest)) / 100
            for best, doubling in zip(points, doublings, strict=True)
        ]

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
        if self._turns.last is not None:
            self._turns.take(backend.name, model)


def _busy_requests_of_one(offer: Offer, now: float) -> float:
    """Return what :func:`load_of` finds for a sole candidate, which is the commonest case in a small fleet."""
    backend, model = offer
    load, figures = backend.load, backend.load.models.get(model)
    busy: float = load.everywhere
    if load.told is not None:
        busy += load.told.other_requests(now)
    if figures is not None and figures.failures:
        busy += figures.recent_failures(now)
    return busy


def _slots_of_one(offer: Offer, now: float) -> float | None:
    """Return how many requests a sole candidate works on at once, likewise."""
    backend, model = offer
    figures = backend.load.models.get(model)
    if backend.load.told is None and (figures is None or figures.learned.limit is None):
        return certain_slots(backend, model)
    candidates = Candidates((offer,))
    return with_guesses(candidates, candidates.figures(), now)[0]


class SmartScores(Scores):
    """The scores of *smart*, and what they consist of."""

    __slots__ = ("_busy", "_in_flight", "_relative", "_slots", "_turn", "offers", "points")

    def __init__(  # noqa: PLR0913 - all that is shown of the candidates
        self,
        points: Sequence[float],
        in_flight: Sequence[int],
        busy: Sequence[float],
        relative: Sequence[float],
        slots: Sequence[float | None],
        turn: Turn,
    ) -> None:
        self.offers, self.points = turn.offers, points
        self._in_flight, self._busy, self._relative, self._slots = in_flight, busy, relative, slots
        self._turn = turn

    def tie(self, at: int) -> float:
        return self._turn.tie(at)

    def first_of(self, places: Sequence[int]) -> int:
        return self._turn.first_of(places)

    def ranked(self, at: int, score: float, *, is_avoided: bool) -> Ranked:
        turn, (backend, own_name) = self._turn, self.offers[at]
        doublings = None if turn.doublings is None else turn.doublings[at]
        return Ranked(
            backend,
            own_name,
            score,
            self.tie(at),
            self._in_flight[at],
            self._busy[at],
            load_points(backend, self._relative[at], self._slots[at]),
            doublings,
            100.0 if doublings is None else latency_points(doublings, turn.fastest),
            is_avoided,
        )


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
        if len({backend.share for backend in backends}) <= 1:
            self._turns.last = None
            return places
        due = self._turns.ties(Candidates([(backend, model) for backend in backends]), model)
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

    def rank(self, candidates: Candidates, model: str, wanted: Requirements) -> Scores:
        del wanted
        offers = candidates.offers
        busy, slots = load_of(candidates, self._clock())
        relative = relative_to_shares(offers, busy) if candidates.by_share else busy
        ties = self._ties(candidates, model)
        listed = [
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
        return ListedScores(listed)

    def _ties(self, candidates: Candidates, model: str) -> list[float]:
        """Return turns where shares differ, else chance, by which a backend could not catch up on missed turns."""
        if candidates.by_share:
            return self._turns.ties(candidates, model)
        self._turns.last = None
        draw = self._random
        return [draw() for _ in candidates.offers]

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
