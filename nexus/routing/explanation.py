"""A whole decision, stage by stage, without reserving anything: as a value for JSON, and as text."""

from collections.abc import Iterable, Iterator

import msgspec

from nexus.domain.fleet import FleetSnapshot
from nexus.errors import StageFailed
from nexus.routing import rejections
from nexus.routing.aliases import Resolution
from nexus.routing.decision import Ranked, Reject
from nexus.routing.intent import RoutingIntent, Verdict
from nexus.routing.router import Request, Router, Routing


class StageReport(msgspec.Struct, frozen=True):
    """What one stage said."""

    stage: str
    plugin: str
    priority: int
    observes: bool
    excluded: tuple[Verdict, ...]
    avoided: tuple[Verdict, ...]
    weighed: tuple[Verdict, ...]
    would_have: tuple[Verdict, ...]
    """What it would have said, when it only observes."""


class Choice(msgspec.Struct, frozen=True):
    """A backend that could be asked."""

    backend: str
    model: str
    score: float
    is_avoided: bool


class ModelReport(msgspec.Struct, frozen=True):
    """One model of the chain: the one asked for, or a fallback."""

    requested: str
    resolved: str
    candidates: tuple[str, ...]
    """Who has it, before any stage."""
    stages: tuple[StageReport, ...]
    ranking: tuple[Choice, ...]
    """Who is left, best first."""
    reason: str
    """Why the best is the best; empty when nobody is left."""
    code: str | None
    """The error code when nobody is left."""
    message: str


class Explanation(msgspec.Struct, frozen=True):
    """What would be decided about one request, and why."""

    model: str
    endpoint: str
    policy: str | None
    """The pattern of the traffic policy that applies."""
    models: tuple[ModelReport, ...]
    """The chain, up to the first model that somebody can answer for."""

    @property
    def backend(self) -> str | None:
        """Who would be asked; None when the request would be rejected."""
        ranking = self.models[-1].ranking
        return ranking[0].backend if ranking else None


def explain(router: Router, request: Request, snapshot: FleetSnapshot) -> Explanation:
    """Return what *router* would decide now; no slot is taken and no turn is used up."""
    routing = Routing(router, request)
    models = []
    for resolution in routing.chain(snapshot):
        models.append(_explain_model(router, routing, resolution, snapshot))
        if models[-1].ranking or models[-1].code == "policy_unavailable":
            break
    pattern = routing.policy.model_pattern if routing.policy else None
    return Explanation(request.requirements.model, request.endpoint.name, pattern, tuple(models))


def as_text(explanation: Explanation) -> str:
    """Return *explanation* for a terminal."""
    return "\n".join(_lines(explanation))


def _explain_model(router: Router, routing: Routing, resolution: Resolution, snapshot: FleetSnapshot) -> ModelReport:
    if not resolution.candidates:
        return _report(resolution, reject=rejections.unknown_model(resolution.requested, snapshot))
    try:
        intent = routing.narrow(resolution, snapshot)
    except StageFailed as failure:
        return _report(resolution, reject=rejections.stage_failed(failure))
    stages = tuple(_stage_reports(router, intent))
    ranking = router.schedule.rank(intent)
    if not ranking:
        return _report(resolution, stages, reject=rejections.nobody_left(resolution, intent, has_tried=False))
    return _report(resolution, stages, ranking, reason=router.schedule.reason(ranking[0], len(ranking)))


def _report(
    resolution: Resolution,
    stages: tuple[StageReport, ...] = (),
    ranking: Iterable[Ranked] = (),
    *,
    reason: str = "",
    reject: Reject | None = None,
) -> ModelReport:
    return ModelReport(
        requested=resolution.requested,
        resolved=resolution.model,
        candidates=tuple(resolution.candidates),
        stages=stages,
        ranking=tuple(Choice(r.backend.name, r.model, r.score, r.is_avoided) for r in ranking),
        reason=reason,
        code=reject.code if reject else None,
        message=reject.message if reject else "",
    )


def _stage_reports(router: Router, intent: RoutingIntent) -> Iterator[StageReport]:
    for stage in router.pipeline.stages:
        place = stage.place

        def said(verdicts: Iterable[Verdict], name: str = place.name) -> tuple[Verdict, ...]:
            return tuple(verdict for verdict in verdicts if verdict.stage == name)

        yield StageReport(
            stage=place.name,
            plugin=place.plugin,
            priority=place.priority,
            observes=place.observes,
            excluded=said(intent.excluded),
            avoided=said(intent.avoided),
            weighed=said(intent.weights),
            would_have=said(intent.observed),
        )


def _lines(explanation: Explanation) -> Iterator[str]:
    yield f"model {explanation.model} at {explanation.endpoint}"
    yield f"policy: {explanation.policy or 'none applies'}"
    for position, model in enumerate(explanation.models):
        yield ""
        also = f" (resolves to {model.resolved})" if model.resolved != model.requested else ""
        yield f"{'fallback ' if position else ''}{model.requested}{also}"
        yield f"  who has it: {', '.join(model.candidates) or 'nobody'}"
        for stage in model.stages:
            yield from _stage_lines(stage)
        for rank, choice in enumerate(model.ranking, 1):
            why = f"  {model.reason}" if rank == 1 else ""
            avoided = "  only if nobody else is left" if choice.is_avoided else ""
            yield f"  {rank}. {choice.backend} as {choice.model}  score {choice.score:.2f}{why}{avoided}"
        if model.code:
            yield f"  rejected: {model.code}: {model.message}"


def _stage_lines(stage: StageReport) -> Iterator[str]:
    said = [
        *(f"excludes {v.backend}: {v.reason}" for v in stage.excluded),
        *(f"avoids {v.backend}: {v.reason}" for v in stage.avoided),
        *(f"weighs {v.backend} by {v.factor:g}: {v.reason}" for v in stage.weighed),
        *(f"would have spoken against {v.backend}: {v.reason}" for v in stage.would_have),
    ]
    observes = " (observes only)" if stage.observes else ""
    yield f"  {stage.priority:>4} {stage.stage}{observes}{'' if said else '  no objection'}"
    yield from (f"         {line}" for line in said)
