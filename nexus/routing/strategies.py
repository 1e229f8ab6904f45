"""How survivors are ranked: each strategy is a score, a way to tell equal scores apart, and a reason to show."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Final

from nexus.config.schema import WeightsConfig
from nexus.domain.backend import Backend

MOST_REMEMBERED_MODELS: Final = 1024

ONLY_ONE: Final = "only_healthy_backend"
"""The reason of every strategy when there is no choice."""


class Strategy(ABC):
    """Scores backends: the highest score comes first."""

    def __init__(self, weights: WeightsConfig, chance: Random) -> None:
        self._weights = weights
        self._random = chance.random

    @abstractmethod
    def score(self, backend: Backend) -> float:
        """Return how much speaks for *backend*, before the factors of the stages are multiplied in."""

    @abstractmethod
    def reason(self, backend: Backend, score: float) -> str:
        """Return why *backend*, whose score is the highest, is chosen."""

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
        load = backend.load
        # Nothing measured yet counts as fast: else a new backend would never be measured.
        latency = (load.latency_ms or 0) // 10
        return (
            (100 - min(backend.priority, 100)) * self._priority
            + (100 - min(load.in_flight, 100)) * self._load
            + (100 - min(latency, 100)) * self._latency
        ) // 100

    def reason(self, backend: Backend, score: float) -> str:
        return f"highest_score:{backend.name}:{score:.2f}"


class RoundRobin(Strategy):
    """One after the other, for each model by itself, in the order of their names."""

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


class PriorityOnly(Strategy):
    """The lowest configured priority."""

    def score(self, backend: Backend) -> float:
        # One more than 100, so that a factor still tells backends of the lowest priority apart.
        return 101 - min(backend.priority, 100)

    def reason(self, backend: Backend, score: float) -> str:
        del score
        return f"priority:{backend.name}:{backend.priority}"


class AtRandom(Strategy):
    """Chance alone."""

    def score(self, backend: Backend) -> float:
        del backend
        return self._random()

    def reason(self, backend: Backend, score: float) -> str:
        del score
        return f"random:{backend.name}"


STRATEGIES: Final[Mapping[str, Callable[[WeightsConfig, Random], Strategy]]] = {
    "smart": Smart,
    "round_robin": RoundRobin,
    "least_loaded": LeastLoaded,
    "priority_only": PriorityOnly,
    "random": AtRandom,
}
"""By the name in ``[routing] strategy``."""
