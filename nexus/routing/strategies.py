"""How survivors are ranked: each strategy is a score, a way to tell equal scores apart, and a reason to show."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import ClassVar, Final

import msgspec

from nexus.config.schema import WeightsConfig
from nexus.domain.backend import Backend
from nexus.routing.decision import Ranked

MOST_REMEMBERED_MODELS: Final = 1024

ALONE: Final = 100
"""The weight, in percent, of what counts alone."""

ONLY_ONE: Final = "only_healthy_backend"
"""The reason of every strategy when there is no choice."""


class Part(msgspec.Struct, frozen=True):
    """One of the things that a score is made of."""

    name: str
    """``priority``, ``load``, ``latency``, ``turn`` or ``chance``."""
    value: float | None
    """What was found: the configured priority, the requests under way, milliseconds (null: not measured yet), how many
    others have their turn before, the number drawn."""
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

    def __init__(self, weights: WeightsConfig, chance: Random) -> None:
        self._weights = weights
        self._random = chance.random

    @abstractmethod
    def score(self, backend: Backend) -> float:
        """Return how much speaks for *backend*, before the factors of the stages are multiplied in."""

    @abstractmethod
    def reason(self, backend: Backend, score: float) -> str:
        """Return why *backend*, whose score is the highest, is chosen."""

    @abstractmethod
    def parts(self, ranked: Ranked, drawn: float) -> tuple[Part, ...]:
        """Return what the score of *ranked* was made of.

        :param drawn: the score itself, without the factors of the stages.
        """

    def ties(self, backends: Sequence[Backend], model: str) -> list[float]:
        """Return what tells equal scores apart, the lowest first: chance, so that no backend is always the first."""
        del model
        draw = self._random
        return [draw() for _ in backends]

    def chosen(self, backend: Backend, model: str) -> None:
        """Learn that *backend* got a request for *model*; most strategies do not care."""
        del backend, model


class Smart(Strategy):
    """Priority, load and latency, weighted in percent, in whole numbers."""

    def __init__(self, weights: WeightsConfig, chance: Random) -> None:
        super().__init__(weights, chance)
        self._priority, self._load, self._latency = weights.priority, weights.load, weights.latency

    def score(self, backend: Backend) -> float:
        load, priority = backend.load, backend.priority
        in_flight, latency_ms = load.in_flight, load.latency_ms
        points = 0
        # Of each the part of 100 that is left, without min(): this runs for every candidate of every request.
        if priority < 100:
            points += (100 - priority) * self._priority
        if in_flight < 100:
            points += (100 - in_flight) * self._load
        if latency_ms is None:
            # Nothing measured yet counts as fast: else a new backend would never be measured.
            points += 100 * self._latency
        elif latency_ms < 1000:
            points += (100 - latency_ms // 10) * self._latency
        return points // 100

    def reason(self, backend: Backend, score: float) -> str:
        return f"highest_score:{backend.name}:{score:.2f}"

    def parts(self, ranked: Ranked, drawn: float) -> tuple[Part, ...]:
        del drawn
        priority, in_flight, latency_ms = ranked.backend.priority, ranked.in_flight, ranked.latency_ms
        return (
            Part("priority", priority, 100 - min(priority, 100), self._priority),
            Part("load", in_flight, 100 - min(in_flight, 100), self._load),
            Part("latency", latency_ms, 100 - min((latency_ms or 0) // 10, 100), self._latency),
        )


class RoundRobin(Strategy):
    """One after the other, for each model by itself, in the order of their names."""

    takes_turns = True

    def __init__(self, weights: WeightsConfig, chance: Random) -> None:
        super().__init__(weights, chance)
        self._last: dict[str, str] = {}
        self._index: dict[str, int] = {}

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
        return [(self._index[backend.name] - turn) % len(names) for backend in backends]

    def chosen(self, backend: Backend, model: str) -> None:
        if len(self._last) >= MOST_REMEMBERED_MODELS:
            self._last.clear()
        self._last[model] = backend.name


class LeastLoaded(Strategy):
    """The smallest part of its slots in use."""

    def score(self, backend: Backend) -> float:
        return max(0.0, 1.0 - backend.load.in_flight / max(1, backend.max_in_flight))

    def reason(self, backend: Backend, score: float) -> str:
        del score
        return f"least_loaded:{backend.name}:{backend.load.in_flight}/{backend.max_in_flight}"

    def parts(self, ranked: Ranked, drawn: float) -> tuple[Part, ...]:
        return (Part("load", ranked.in_flight, drawn, ALONE),)


class PriorityOnly(Strategy):
    """The lowest configured priority."""

    def score(self, backend: Backend) -> float:
        # One more than 100, so that a factor still tells backends of the lowest priority apart.
        return 101 - min(backend.priority, 100)

    def reason(self, backend: Backend, score: float) -> str:
        del score
        return f"priority:{backend.name}:{backend.priority}"

    def parts(self, ranked: Ranked, drawn: float) -> tuple[Part, ...]:
        return (Part("priority", ranked.backend.priority, drawn, ALONE),)


class AtRandom(Strategy):
    """Chance alone."""

    def score(self, backend: Backend) -> float:
        del backend
        return self._random()

    def reason(self, backend: Backend, score: float) -> str:
        del score
        return f"random:{backend.name}"

    def parts(self, ranked: Ranked, drawn: float) -> tuple[Part, ...]:
        del ranked
        return (Part("chance", drawn, drawn, ALONE),)


STRATEGIES: Final[Mapping[str, Callable[[WeightsConfig, Random], Strategy]]] = {
    "smart": Smart,
    "round_robin": RoundRobin,
    "least_loaded": LeastLoaded,
    "priority_only": PriorityOnly,
    "random": AtRandom,
}
"""By the name in ``[routing] strategy``."""
