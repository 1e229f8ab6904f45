"""What the stages have said of candidates, by their positions: mostly, it is the same for many requests."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet

import msgspec

from nexus.routing.intent import Verdict


class Judged(msgspec.Struct, frozen=True):
    """How candidates are ranked apart from their scores."""

    factors: Sequence[tuple[int, float]]
    """The position of each candidate that is weighed, and what its score is multiplied by."""
    avoided: AbstractSet[int]
    """The positions of candidates that are asked only when no other is left."""
    standing: Mapping[int, int]
    """By position, how far candidates are kept back that are avoided (1), a last resort (2), or both."""


def judged(
    factors: Mapping[str, float], avoided: AbstractSet[str], last_resorts: AbstractSet[str], places: Mapping[str, int]
) -> Judged:
    """Return what is said of the candidates among these backends.

    :param factors: by the names of backends, what their scores are multiplied by.
    :param avoided: the names of backends that are asked only when no other is left.
    :param last_resorts: the names of backends that are asked only when not even one of those is left.
    :param places: by its name, the position of each candidate.
    """
    standing: dict[int, int] = {}
    for names, step in ((avoided, 1), (last_resorts, 2)):
        for name in names:
            if (at := places.get(name)) is not None:
                standing[at] = standing.get(at, 0) + step
    return Judged(
        [(places[name], factor) for name, factor in factors.items() if name in places],
        frozenset([places[name] for name in avoided if name in places]),
        standing,
    )


class RememberedJudgement:
    """What was said of the same candidates in the last ranking."""

    __slots__ = ("_avoided", "_found", "_last_resorts", "_weights")

    def __init__(self) -> None:
        self._weights: Sequence[Verdict] = []
        self._avoided: Sequence[Verdict] = []
        self._last_resorts: AbstractSet[str] = frozenset()
        self._found = Judged([], frozenset(), {})

    def of(
        self,
        weights: Sequence[Verdict],
        avoided: Sequence[Verdict],
        last_resorts: AbstractSet[str],
        places: Mapping[str, int],
    ) -> Judged:
        """Return what is said of the candidates, that of the last ranking if these verdicts are the same."""
        # Remembered verdicts are the same objects, so that few comparisons look further.
        if weights != self._weights or avoided != self._avoided or last_resorts != self._last_resorts:
            names = frozenset([verdict.backend for verdict in avoided])
            self._found = judged(factors_of(weights), names, last_resorts, places)
            self._weights, self._avoided, self._last_resorts = [*weights], [*avoided], last_resorts
        return self._found


def factors_of(weights: Sequence[Verdict]) -> dict[str, float]:
    """Return the product of all factors for each backend, by its name."""
    factors: dict[str, float] = {}
    for verdict in weights:
        factors[verdict.backend] = factors.get(verdict.backend, 1.0) * verdict.factor
    return factors
