"""The order of the candidates: the best first, and the others only when they are looked at."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from math import inf
from typing import overload

import msgspec

from nexus.domain.silence import Offer
from nexus.routing.ranking.judged import Judged
from nexus.routing.ranking.scoring import Ranked


class Scores(ABC):
    """What a strategy found of each candidate, by its position; it does not change afterwards."""

    __slots__ = ()

    offers: Sequence[Offer]
    points: Sequence[float]
    """The score of each, without the factors of the stages."""

    @abstractmethod
    def tie(self, at: int) -> float:
        """Return the order of one among equal scores, lowest first."""

    def first_of(self, places: Sequence[int]) -> int:
        """Return the one of *places*, whose scores are equal, that comes first."""
        return min(places, key=self.tie)

    @abstractmethod
    def ranked(self, at: int, score: float, *, is_avoided: bool) -> Ranked:
        """Return one of them, with its final score."""


class ListedScores(Scores):
    """Scores of a strategy that has made all candidates already."""

    __slots__ = ("_listed", "offers", "points")

    def __init__(self, listed: Sequence[Ranked]) -> None:
        self._listed = listed
        self.offers = [(ranked.backend, ranked.model) for ranked in listed]
        self.points = [ranked.score for ranked in listed]

    def tie(self, at: int) -> float:
        return self._listed[at].tie

    def ranked(self, at: int, score: float, *, is_avoided: bool) -> Ranked:
        found = self._listed[at]
        if score == found.score and not is_avoided:
            return found
        return msgspec.structs.replace(found, score=score, is_avoided=is_avoided)


class Ranking(Sequence[Ranked]):
    """Candidates, best first: unhealthy ones come last, and avoided ones after all others."""

    __slots__ = ("_best", "_judged", "_order", "_points", "_scores")

    def __init__(self, scores: Scores, judged: Judged | None = None) -> None:
        """:param judged: what the stages have said of the candidates; None: nothing."""
        self._scores = scores
        self._points = scores.points
        self._judged = judged
        self._order: list[Ranked] | None = None
        if judged is not None and judged.factors:
            self._points = points = [*scores.points]
            for at, factor in judged.factors:
                points[at] *= factor
        self._best = self._find_best()

    def __len__(self) -> int:
        return len(self._points)

    def __iter__(self) -> Iterator[Ranked]:
        if self._best is not None:
            yield self._best
            if len(self._points) > 1:
                yield from self._ordered()[1:]

    @overload
    def __getitem__(self, at: int) -> Ranked: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Ranked]: ...
    def __getitem__(self, at: int | slice) -> Ranked | Sequence[Ranked]:
        if at == 0 and self._best is not None:
            return self._best
        return self._ordered()[at]

    def _find_best(self) -> Ranked | None:
        """Return the first one, without ordering the others."""
        points = self._points
        if not points:
            return None
        if self._judged is not None and (standing := self._judged.standing):
            least = 0 if len(standing) < len(points) else min(standing.values())
            points = [*points]
            for at, kept_back in standing.items():
                if kept_back > least:
                    points[at] = -inf
        highest = max(points)
        if points.count(highest) == 1:
            return self._ranked(points.index(highest))
        return self._ranked(self._scores.first_of([at for at, score in enumerate(points) if score == highest]))

    def _ordered(self) -> list[Ranked]:
        if self._order is None:
            standing: Mapping[int, int] = {} if self._judged is None else self._judged.standing
            points, tie = self._points, self._scores.tie
            order = sorted(range(len(self)), key=lambda at: (standing.get(at, 0), -points[at], tie(at)))
            self._order = [self._ranked(at) for at in order]
        return self._order

    def _ranked(self, at: int) -> Ranked:
        is_avoided = self._judged is not None and at in self._judged.avoided
        return self._scores.ranked(at, self._points[at], is_avoided=is_avoided)
