"""The verdicts and the ranking of one recorded model, grouped by backend."""

from collections.abc import Iterable, Mapping
from functools import cached_property

from nexus.routing.decision_record import ConsideredModel
from nexus.routing.intent import Verdict
from nexus.routing.ranking.scoring import Ranked
from nexus.routing.ranking.strategies import ScorePart, Strategy


class Findings:
    """One model of one round, by backend."""

    def __init__(self, model: ConsideredModel, strategy: Strategy) -> None:
        self.model = model
        self.excluded = _by_backend(model.excluded)
        self.avoided = _by_backend(model.avoided)
        self.weights = _by_backend(model.weights)
        self.full = {verdict.backend: verdict for verdict in model.full}
        self.ranks = {ranked.backend.name: (rank, ranked) for rank, ranked in enumerate(model.ranking, 1)}
        self._strategy = strategy

    @cached_property
    def best(self) -> Ranked:
        """The first of the ranking that could take the request; if none could, the first."""
        out = self.full.keys() | self.excluded.keys()
        free = (ranked for ranked in self.model.ranking if ranked.backend.name not in out)
        return next(free, self.model.ranking[0])

    def factor(self, backend: str) -> float:
        """Return the product of all factors of that backend."""
        product = 1.0
        for verdict in self.weights.get(backend, ()):
            product *= verdict.factor
        return product

    def parts(self, ranked: Ranked) -> tuple[ScorePart, ...]:
        """Return the parts of the score of *ranked*."""
        factor = self.factor(ranked.backend.name)
        return self._strategy.parts(ranked, ranked.score / factor if factor else 0.0)


def _by_backend(verdicts: Iterable[Verdict]) -> Mapping[str, list[Verdict]]:
    found: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        found.setdefault(verdict.backend, []).append(verdict)
    return found
