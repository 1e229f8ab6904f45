"""Explains in a sentence why each of the other backends was not chosen."""

from typing import Final

from nexus.domain.backend import Backend, Status
from nexus.domain.outcome import AttemptOutcome
from nexus.routing.core_stages.schedule import AT_ITS_LIMIT, Schedule
from nexus.routing.decision import Reject, Reserved
from nexus.routing.decision_record import DecisionRecord
from nexus.routing.explain.findings import Findings
from nexus.routing.explain.model import WhyNot
from nexus.routing.ranking.scoring import Ranked
from nexus.routing.ranking.strategies import Strategy

NOTICEABLE: Final = 0.005
"""Scores that differ by less look equal when shown with two decimals."""
BY_SHARE: Final = (" load", " turn", " chance")
"""The parts of a score that depend on the share of a backend."""


def why_not(record: DecisionRecord) -> tuple[WhyNot, ...]:
    """Return a sentence for each backend that was not chosen, by name; none when the request was rejected before the
    search.
    """
    last = record.rounds[-1]
    if not last.models:
        return ()
    chosen = last.decision.backend.name if isinstance(last.decision, Reserved) else None
    search = _LastSearch(record)
    others = (backend for backend in last.backends if backend.name != chosen)
    return tuple(WhyNot(backend=backend.name, why=search.sentence(backend)) for backend in others)


class _LastSearch:
    """The last search of a request, and the backends that were tried before it."""

    def __init__(self, record: DecisionRecord) -> None:
        *before, last = record.rounds
        self._strategy = record.rules.strategy
        self._models = [Findings(model, self._strategy) for model in last.models]
        self._decision = last.decision
        self._tried = {
            (earlier.chosen.resolution.requested, earlier.decision.backend.name)
            for earlier in before
            if isinstance(earlier.decision, Reserved) and earlier.chosen is not None
        }
        self._refusals = {
            earlier.decision.backend.name: earlier.refusal.message
            for earlier in before
            if isinstance(earlier.decision, Reserved) and earlier.refusal is not None
        }
        attempts = record.outcome.attempts if record.outcome is not None else ()
        self._faults = {attempt.backend: _fault(attempt) for attempt in reversed(attempts)}

    def sentence(self, backend: Backend) -> str:
        having = [found for found in self._models if backend.name in found.model.resolution.candidates]
        if not having:
            return self._lacks(backend)
        if len(self._models) == 1:
            return self._about(backend, having[0])
        return "; ".join(f"for '{found.model.resolution.requested}': {self._about(backend, found)}" for found in having)

    def _lacks(self, backend: Backend) -> str:
        if backend.status is not Status.HEALTHY and not backend.models:
            return f"it is {backend.status} and its models are not known{_because(backend.last_error)}"
        return f"it does not have {' or '.join(repr(found.model.resolution.requested) for found in self._models)}"

    def _about(self, backend: Backend, found: Findings) -> str:
        name = backend.name
        if name in self._refusals:
            return f"the request cannot be translated for it: {self._refusals[name]}"
        if (found.model.resolution.requested, name) in self._tried:
            return f"it was tried before, and failed{_because(self._faults.get(name))}"
        if name in found.excluded:
            said = (f"stage '{verdict.stage}' excluded it: {verdict.reason}" for verdict in found.excluded[name])
            return " and ".join(said)
        if name not in found.ranks:
            return self._not_reached()
        rank, ranked = found.ranks[name]
        if name in found.full and found.full[name].stage != Schedule.name:
            return f"it could not take the request at once: {found.full[name].reason} ('{found.full[name].stage}')"
        if name in found.full and found.full[name].reason != AT_ITS_LIMIT.reason:
            return f"it could not take the request at once: {found.full[name].reason}"
        if name in found.full and ranked.in_flight < backend.max_in_flight:
            slots = f"{ranked.in_flight} of {backend.max_in_flight} slots are in use"
            return f"this process has none of its free slots, and asks other workers or replicas for one: {slots}"
        if name in found.full:
            return f"it is at its limit: {ranked.in_flight} of {backend.max_in_flight} slots are in use"
        if ranked.is_avoided:
            said = (f"{verdict.reason} ('{verdict.stage}')" for verdict in found.avoided[name])
            return f"it is avoided while any other backend is left: {'; '.join(said)}"
        return _compared(rank, ranked, found, self._strategy)

    def _not_reached(self) -> str:
        decision = self._decision
        if isinstance(decision, Reject) and decision.context and "stage" in decision.context:
            return f"stage '{decision.context['stage']}' failed before a backend could be chosen"
        return "it was not considered"


def _compared(rank: int, ranked: Ranked, found: Findings, strategy: Strategy) -> str:
    """Return the sentence that compares *ranked* with the best."""
    best = found.best
    place = f"it ranks {rank} of {len(found.ranks)}"
    if best.score - ranked.score < NOTICEABLE:
        is_by_share = ranked.backend.share != best.backend.share and strategy.divides_by_turns
        preferred = "comes first in turn" if strategy.takes_turns or is_by_share else "was preferred at random"
        as_good = f"{place}: as good as {best.backend.name} (score {ranked.score:.2f})"
        return f"{as_good}, which {preferred}{_shares(ranked, best)}"
    against = f"{place}: score {ranked.score:.2f} against {best.score:.2f} of {best.backend.name}"
    most = _most_lost(ranked, best, found)
    return f"{against}, {most}{_shares(ranked, best) if most.endswith(BY_SHARE) else ''}"


def _shares(ranked: Ranked, best: Ranked) -> str:
    own, other = ranked.backend.share, best.backend.share
    return "" if own == other else f" (its share is {own:g}, that of {best.backend.name} {other:g})"


def _most_lost(ranked: Ranked, best: Ranked, found: Findings) -> str:
    name = ranked.backend.name
    losses = {
        f"by its {own.name}": other.adds - own.adds
        for own, other in zip(found.parts(ranked), found.parts(best), strict=True)
    }
    factor = found.factor(name)
    if factor < 1.0:
        by = ", ".join(f"'{verdict.stage}': {verdict.reason}" for verdict in found.weights[name])
        loss = ranked.score / factor - ranked.score if factor else best.score
        losses[f"because it is weighed by {factor:.3g} ({by})"] = loss
    most = max(losses, key=lambda why: losses[why])
    return f"mostly {most}" if sum(loss > 0 for loss in losses.values()) > 1 else most


def _fault(attempt: AttemptOutcome) -> str:
    return ", ".join(str(part) for part in (attempt.fault, attempt.status) if part is not None)


def _because(cause: str | None) -> str:
    return f" ({cause})" if cause else ""
