"""Why each backend is not the one that was chosen: a sentence for people, from what was kept of the decision."""

from collections.abc import Iterable, Iterator
from typing import Final

from nexus.domain.backend import Backend, Status
from nexus.domain.outcome import AttemptOutcome
from nexus.routing.decision import Ranked, Reject, Reserved
from nexus.routing.explanation import WhyNot
from nexus.routing.recording import Considered, DecisionRecord, Round
from nexus.routing.strategies import Part, Strategy

NOTICEABLE: Final = 0.005
"""Scores that differ by less look equal with two decimals."""


def why_not(record: DecisionRecord) -> tuple[WhyNot, ...]:
    """Return a sentence for each backend of the fleet but the chosen one, in the order of their names; nothing when
    the request was refused before any backend was thought of.
    """
    last = record.rounds[-1]
    if not last.models:
        return ()
    chosen = last.decision.backend.name if isinstance(last.decision, Reserved) else None
    return tuple(
        WhyNot(backend=backend.name, why=_Sentence(record, last, backend).text())
        for backend in last.backends
        if backend.name != chosen
    )


class _Sentence:
    """What is said of one backend, by looking for it wherever it may have been left behind."""

    def __init__(self, record: DecisionRecord, last: Round, backend: Backend) -> None:
        self._record = record
        self._last = last
        self._backend = backend
        self._name = backend.name

    def text(self) -> str:
        having = [model for model in self._last.models if self._name in model.resolution.candidates]
        if not having:
            return self._lacks()
        if len(self._last.models) == 1:
            return self._about(having[0])
        return "; ".join(f"for '{model.resolution.requested}': {self._about(model)}" for model in having)

    def _lacks(self) -> str:
        backend = self._backend
        wanted = " or ".join(f"'{model.resolution.requested}'" for model in self._last.models)
        if backend.status is not Status.HEALTHY and not backend.models:
            return f"it is {backend.status} and its models are not known{_because(backend.last_error)}"
        return f"it does not have {wanted}"

    def _about(self, model: Considered) -> str:
        if self._was_asked_for(model):
            return f"it was asked before, and failed{_because(_fault_of(self._name, self._attempts()))}"
        excluded = [verdict for verdict in model.excluded if verdict.backend == self._name]
        if excluded:
            return " and ".join(f"stage '{verdict.stage}' excluded it: {verdict.reason}" for verdict in excluded)
        ranked = next((ranked for ranked in model.ranking if ranked.backend.name == self._name), None)
        return self._not_reached() if ranked is None else self._ranked(ranked, model)

    def _was_asked_for(self, model: Considered) -> bool:
        return any(
            isinstance(found := earlier.decision, Reserved)
            and found.backend.name == self._name
            and earlier.models[-1].resolution.requested == model.resolution.requested
            for earlier in self._record.rounds
            if earlier is not self._last
        )

    def _attempts(self) -> Iterable[AttemptOutcome]:
        return self._record.outcome.attempts if self._record.outcome is not None else ()

    def _not_reached(self) -> str:
        decision = self._last.decision
        if isinstance(decision, Reject) and decision.context and "stage" in decision.context:
            return f"stage '{decision.context['stage']}' failed before anybody could be chosen"
        return "it was out of the question"

    def _ranked(self, ranked: Ranked, model: Considered) -> str:
        if any(full.name == self._name for full in model.full):
            return f"it is at its limit: {ranked.in_flight} of {self._backend.max_in_flight} slots are in use"
        if ranked.is_avoided:
            said = "; ".join(f"{v.reason} ('{v.stage}')" for v in model.avoided if v.backend == self._name)
            return f"it is avoided as long as anybody else is left: {said}"
        return _compared(ranked, model, self._record.rules.strategy)


def _compared(ranked: Ranked, model: Considered, strategy: Strategy) -> str:
    """Say what the first of the ranking, or the first that had a slot, has over *ranked*."""
    full = {backend.name for backend in model.full}
    excluded = {verdict.backend for verdict in model.excluded}
    better = next(r for r in model.ranking if r.backend.name not in full | excluded)
    place = f"it ranks {model.ranking.index(ranked) + 1} of {len(model.ranking)}"
    if better.score - ranked.score < NOTICEABLE:
        return f"{place}: as good as {better.backend.name} (score {ranked.score:.2f}), which {_tie_breaker(strategy)}"
    against = f"{place}: score {ranked.score:.2f} against {better.score:.2f} of {better.backend.name}"
    return f"{against}{_most_lost(ranked, better, model, strategy)}"


def _tie_breaker(strategy: Strategy) -> str:
    return "has its turn before" if strategy.takes_turns else "chance preferred"


def _most_lost(ranked: Ranked, better: Ranked, model: Considered, strategy: Strategy) -> str:
    factor = factor_of(model, ranked.backend.name)
    losses = {
        f"by its {own.name}": other.adds - own.adds
        for own, other in zip(parts(strategy, ranked, model), parts(strategy, better, model), strict=True)
    }
    if factor < 1.0:
        by = ", ".join(f"'{v.stage}': {v.reason}" for v in model.weights if v.backend == ranked.backend.name)
        losses[f"because it is weighed by {factor:g} ({by})"] = ranked.score / factor - ranked.score if factor else 1e9
    lost = {why: loss for why, loss in losses.items() if loss > 0}
    most = max(losses, key=lambda why: losses[why])
    return f", mostly {most}" if len(lost) > 1 else f", {most}"


def factor_of(model: Considered, backend: str) -> float:
    """Return the product of all that the stages weighed that backend by."""
    product = 1.0
    for verdict in model.weights:
        if verdict.backend == backend:
            product *= verdict.factor
    return product


def parts(strategy: Strategy, ranked: Ranked, model: Considered) -> tuple[Part, ...]:
    """Return what the score of *ranked* is made of."""
    factor = factor_of(model, ranked.backend.name)
    return strategy.parts(ranked, ranked.score / factor if factor else 0.0)


def _fault_of(backend: str, attempts: Iterable[AttemptOutcome]) -> str | None:
    return next(_faults(backend, attempts), None)


def _faults(backend: str, attempts: Iterable[AttemptOutcome]) -> Iterator[str]:
    for attempt in attempts:
        if attempt.backend == backend:
            yield ", ".join(str(part) for part in (attempt.fault, attempt.status) if part is not None)


def _because(cause: str | None) -> str:
    return f" ({cause})" if cause else ""
