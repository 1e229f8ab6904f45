"""How survivors are ranked: each strategy is a score, a way to tell equal scores apart, and a reason to show."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from random import Random
from time import monotonic
from typing import ClassVar, Final

import msgspec

from nexus.config.schema import WeightsConfig
from nexus.domain.backend import Backend
from nexus.routing.decision import Ranked
from nexus.routing.ranking import shares
from nexus.routing.ranking.scoring import (
    MAX_REMEMBERED_MODELS,
    Turns,
    all_load_points,
    expected_doublings,
    latency_points,
    load_points,
)
from nexus.routing.ranking.shares import Offer

ALONE: Final = 100
"""The weight, in percent, of what counts alone."""

ONLY_ONE: Final = "only_healthy_backend"
"""The reason of every strategy when there is no choice."""


class Part(msgspec.Struct, frozen=True):
    """One of the things that a score is made of."""

    name: str
    """``priority``, ``load``, ``latency``, ``turn`` or ``chance``."""
    value: float | None
    """What was found: the configured priority, the requests under way, the milliseconds that the model is expected to
    take there (null: nothing is measured of any candidate), how many others have their turn before, or the number
    drawn."""
    points: float
    """What that is worth; the more the better."""
    weight: int
    """In percent; 100 where nothing else counts."""

    @property
    def adds(self) -> float:
        return self.points if self.weight == ALONE else self.points * self.weight / ALONE


class Strategy(ABC):
    """Scores backends: the highest score comes first."""

    takes_turns: ClassVar[bool] = False
    """Whether equal scores are told apart by whose turn it is, and not by chance."""
    divides_by_turns: ClassVar[bool] = False
    """Whether they are where shares differ."""

    def __init__(self, weights: WeightsConfig, chance: Random, clock: Callable[[], float] = monotonic) -> None:
        self._weights = weights
        self._random = chance.random
        self._clock = clock

    @abstractmethod
    def rank(self, offers: Sequence[Offer], model: str, *, is_stream: bool) -> list[Ranked]:
        """Return what speaks for each of *offers*, in their order, before the factors of the stages are multiplied in.

        :param model: after aliases, the one that is asked for.
        """

    @abstractmethod
    def reason(self, backend: Backend, score: float) -> str:
        """Return why *backend*, whose score is the highest, is chosen."""

    @abstractmethod
    def parts(self, ranked: Ranked, drawn: float) -> tuple[Part, ...]:
        """Return what the score of *ranked* was made of.

        :param drawn: the score itself, without the factors of the stages.
        """

    def chosen(self, backend: Backend, model: str) -> None:
        """Learn that *backend* got a request for *model*; most strategies do not care."""
        del backend, model


class Plain(Strategy):
    """One whose score of a backend needs nothing but that backend."""

    def rank(self, offers: Sequence[Offer], model: str, *, is_stream: bool) -> list[Ranked]:
        del is_stream
        ties = self.ties([backend for backend, _ in offers], model)
        return [
            Ranked(backend, own_name, self.score(backend), tie=tie, in_flight=backend.load.in_flight)
            for (backend, own_name), tie in zip(offers, ties, strict=True)
        ]

    @abstractmethod
    def score(self, backend: Backend) -> float:
        """Return how much speaks for *backend*."""

    def ties(self, backends: Sequence[Backend], model: str) -> list[float]:
        """Return what tells equal scores apart, the lowest first: chance, by which the first is each as often as its
        share says.
        """
        del model
        draw = self._random
        return [shares.drawn_tie(backend.share, draw()) for backend in backends]


class Smart(Strategy):
    """Priority, load and latency, weighted in percent; what is equally good has its turn by its share and its speed."""

    takes_turns = True

    def __init__(self, weights: WeightsConfig, chance: Random, clock: Callable[[], float] = monotonic) -> None:
        super().__init__(weights, chance, clock)
        self._priority, self._load, self._latency = weights.priority, weights.load, weights.latency
        self._turns = Turns(chance.random)

    def rank(self, offers: Sequence[Offer], model: str, *, is_stream: bool) -> list[Ranked]:
        now = self._clock()
        if len(offers) == 1:
            # No other candidate to compare with: the commonest case in a small fleet, and after the other stages.
            ((backend, own_name),) = offers
            self._turns.forget_rivals()
            return [self._ranked(backend, own_name, 0.0, load_points(backend, own_name, now), None, 100.0)]
        loads = all_load_points(offers, now)
        doublings = expected_doublings(offers, now, is_stream=is_stream)
        ties = self._turns.ties(offers, model, doublings)
        if doublings is None:
            return [
                self._ranked(backend, own_name, ties[at], loads[at], None, 100.0)
                for at, (backend, own_name) in enumerate(offers)
            ]
        fastest = min(doublings, default=0.0)
        return [
            self._ranked(backend, own_name, ties[at], loads[at], doublings[at], latency_points(doublings[at], fastest))
            for at, (backend, own_name) in enumerate(offers)
        ]

    def _ranked(  # noqa: PLR0913 - all that is shown of one candidate
        self, backend: Backend, own_name: str, tie: float, load: float, doublings: float | None, latency: float
    ) -> Ranked:
        priority = backend.priority
        points = load * self._load + latency * self._latency
        if priority < 100:
            points += (100 - priority) * self._priority
        in_flight = backend.load.in_flight
        return Ranked(backend, own_name, points / 100, False, tie, in_flight, load, doublings, latency)  # noqa: FBT003 - in the order of its fields

    def reason(self, backend: Backend, score: float) -> str:
        return f"highest_score:{backend.name}:{score:.2f}"

    def parts(self, ranked: Ranked, drawn: float) -> tuple[Part, ...]:
        del drawn
        priority = ranked.backend.priority
        return (
            Part("priority", priority, 100 - min(priority, 100), self._priority),
            Part("load", ranked.in_flight, ranked.load_points, self._load),
            Part("latency", ranked.latency_ms, ranked.latency_points, self._latency),
        )

    def chosen(self, backend: Backend, model: str) -> None:
        self._turns.took(backend.name, model)


class RoundRobin(Plain):
    """One after the other, for each model by itself, in the order of their names; where shares differ, by these."""

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

    def parts(self, ranked: Ranked, drawn: float) -> tuple[Part, ...]:
        return (Part("turn", ranked.tie, drawn, ALONE),)

    def ties(self, backends: Sequence[Backend], model: str) -> list[float]:
        names = sorted(backend.name for backend in backends)
        self._index = {name: index for index, name in enumerate(names)}
        # The turn is kept by name, not by number: it survives that backends come and go, and ranking twice.
        last = self._last.get(model, "")
        turn = next((index for index, name in enumerate(names) if name > last), 0)
        places: list[float] = [(self._index[backend.name] - turn) % len(names) for backend in backends]
        offers = [(backend, model) for backend in backends]
        if not shares.differ(offers):
            self._turns.forget_rivals()
            return places
        due = self._turns.ties(offers, model, None)
        order = sorted(range(len(backends)), key=due.__getitem__)
        return [order.index(at) for at in range(len(backends))]

    def chosen(self, backend: Backend, model: str) -> None:
        if len(self._last) >= MAX_REMEMBERED_MODELS:
            self._last.clear()
        self._last[model] = backend.name
        self._turns.took(backend.name, model)


class LeastLoaded(Strategy):
    """The smallest part of its slots, or of its limit, in use; by its share, where shares differ."""

    divides_by_turns = True

    def __init__(self, weights: WeightsConfig, chance: Random, clock: Callable[[], float] = monotonic) -> None:
        super().__init__(weights, chance, clock)
        self._turns = Turns(chance.random)

    def rank(self, offers: Sequence[Offer], model: str, *, is_stream: bool) -> list[Ranked]:
        del is_stream
        loads, ties = all_load_points(offers, self._clock()), self._ties(offers, model)
        return [
            Ranked(backend, own_name, loads[at] / 100, tie=ties[at], in_flight=backend.load.in_flight)
            for at, (backend, own_name) in enumerate(offers)
        ]

    def _ties(self, offers: Sequence[Offer], model: str) -> list[float]:
        """Return chance, or turns where shares differ: chance would not make up for those that were busy before."""
        if shares.differ(offers):
            return self._turns.ties(offers, model, None)
        self._turns.forget_rivals()
        draw = self._random
        return [draw() for _ in offers]

    def chosen(self, backend: Backend, model: str) -> None:
        self._turns.took(backend.name, model)

    def reason(self, backend: Backend, score: float) -> str:
        del score
        return f"least_loaded:{backend.name}:{backend.load.in_flight}/{backend.max_in_flight}"

    def parts(self, ranked: Ranked, drawn: float) -> tuple[Part, ...]:
        return (Part("load", ranked.in_flight, drawn, ALONE),)


class PriorityOnly(Plain):
    """The lowest configured priority."""

    def score(self, backend: Backend) -> float:
        # One more than 100, so that a factor still tells backends of the lowest priority apart.
        return 101 - min(backend.priority, 100)

    def reason(self, backend: Backend, score: float) -> str:
        del score
        return f"priority:{backend.name}:{backend.priority}"

    def parts(self, ranked: Ranked, drawn: float) -> tuple[Part, ...]:
        return (Part("priority", ranked.backend.priority, drawn, ALONE),)


class AtRandom(Plain):
    """Chance alone; the first is each as often as its share says."""

    def score(self, backend: Backend) -> float:
        # The highest of such powers is each with the probability of its share (Efraimidis and Spirakis, 2006).
        return math.pow(self._random(), 1.0 / backend.share)

    def reason(self, backend: Backend, score: float) -> str:
        del score
        return f"random:{backend.name}"

    def parts(self, ranked: Ranked, drawn: float) -> tuple[Part, ...]:
        del ranked
        return (Part("chance", drawn, drawn, ALONE),)


STRATEGIES: Final[Mapping[str, type[Strategy]]] = {
    "smart": Smart,
    "round_robin": RoundRobin,
    "least_loaded": LeastLoaded,
    "priority_only": PriorityOnly,
    "random": AtRandom,
}
"""By the name in ``[routing] strategy``."""
