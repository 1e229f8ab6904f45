"""Builds explanations: of what would be decided about a request, without side effects, and of recorded decisions."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Literal

import msgspec
from msgspec.structs import replace

from nexus.domain.backend import Backend
from nexus.domain.fleet import FleetSnapshot
from nexus.domain.outcome import AttemptOutcome, ExchangeOutcome
from nexus.domain.request import Endpoint
from nexus.domain.translation import pair
from nexus.error_codes import CODES
from nexus.routing.core_stages.analyze import needed_capabilities
from nexus.routing.decision import Decision, Reject, Reserved, Saturated
from nexus.routing.decision_record import ConsideredModel, DecisionRecord, Request, Round, StageLabel
from nexus.routing.explain import model as shape
from nexus.routing.explain.findings import Findings
from nexus.routing.explain.why_not import why_not
from nexus.routing.intent import RoutingIntent, Verdict
from nexus.routing.pipeline import Refused, Reservation
from nexus.routing.policies import Policy
from nexus.routing.router import Router, Routing
from nexus.routing.stage.api import Hold

Source = Literal["request", "proxy", "probes"]


class DryRun(Routing):
    """A search that asks the stages what they would refuse instead of reserving anything."""

    __slots__ = ()

    def __init__(self, router: Router, request: Request) -> None:
        super().__init__(router, request)
        self._wants_facts = True
        self._reserve = self._would_reserve

    def _would_reserve(self, intent: RoutingIntent, backend: Backend) -> Hold | Refused:
        for stage in reversed(self._router.pipeline.stages):
            is_asked = stage.holds_something and not stage.is_off
            if is_asked and (refusal := stage.would_refuse(intent, backend)) is not None:
                return Refused(stage.place.name, refusal)
        return Reservation((), ())

    def decide(self, snapshot: FleetSnapshot) -> Decision:
        """Return what would be decided now, without taking a slot or a turn."""
        with self._router.schedule.chance_restored():
            return self.next(snapshot)


def as_explanation(
    record: DecisionRecord,
    *,
    source: Source = "request",
    instead_of_waiting: Reject | None = None,
    untranslated: tuple[str, ...] = (),
) -> shape.Explanation:
    """Return the explanation of *record*, which has at least one round.

    :param instead_of_waiting: the rejection when all backends are at their limit; None when the request may wait.
    :param untranslated: what the translation for the chosen backend leaves out.
    """
    request = record.request
    rounds = tuple(_round(found, record, instead_of_waiting) for found in record.rounds)
    if untranslated:
        last = replace(rounds[-1], decision=replace(rounds[-1].decision, untranslated=untranslated))
        rounds = (*rounds[:-1], last)
    policies = {p.index: p for found in record.rounds for model in found.models for p in model.policies if p.is_written}
    return shape.Explanation(
        id=request.id,
        client_request_id=request.client_request_id or None,
        source=source,
        received_at=datetime.fromtimestamp(request.received_unix_s, UTC),
        request=_request(request),
        policies=tuple(_policy(policies[index]) for index in sorted(policies)),
        rounds=rounds,
        decision=rounds[-1].decision,
        why_not=why_not(record),
        outcome=_outcome(record.outcome) if record.outcome is not None else None,
    )


def decided(decision: Decision | None) -> Literal["route", "queue", "reject"]:
    """Return the word for *decision*; None, after an internal error, counts as a rejection."""
    return _WORDS.get(type(decision), "reject")


_WORDS: Final[Mapping[type, Literal["route", "queue"]]] = {Reserved: "route", Saturated: "queue"}


def _request(request: Request) -> shape.RequestReport:
    wanted, endpoint = request.requirements, request.endpoint
    return shape.RequestReport(
        model=wanted.model,
        endpoint=endpoint.name,
        protocol=endpoint.protocol,
        path=endpoint.path,
        is_stream=wanted.is_stream,
        prompt_tokens=wanted.prompt_tokens,
        max_tokens=wanted.max_tokens,
        needs=tuple(needed_capabilities(wanted)),
        hints=dict(request.headers),
    )


def _policy(policy: Policy) -> shape.PolicyReport:
    return shape.PolicyReport(
        index=policy.index,
        model_pattern=policy.model_pattern,
        fallback_allowed=policy.fallback_allowed,
        keys={plugin: msgspec.to_builtins(keys) for plugin, keys in policy.keys.items()},
    )


def _round(found: Round, record: DecisionRecord, instead_of_waiting: Reject | None) -> shape.RoundReport:
    decision = found.decision
    if isinstance(decision, Saturated) and instead_of_waiting is not None:
        decision = instead_of_waiting
    if isinstance(decision, Reject) and (refusals := [before.refusal for before in record.rounds if before.refusal]):
        # As the client is told: this it can change.
        decision = refusals[-1]
    return shape.RoundReport(
        tries=found.tries,
        models=tuple(_model(model, record) for model in found.models),
        decision=_decision(decision, found, record.request.endpoint),
    )


def _model(model: ConsideredModel, record: DecisionRecord) -> shape.ModelReport:
    rules = record.rules
    # Without candidates, no stage runs.
    stages = rules.stages if model.resolution.candidates else ()
    return shape.ModelReport(
        requested=model.resolution.requested,
        resolved=model.resolution.model,
        policies=tuple(policy.index for policy in model.policies if policy.is_written),
        candidates={backend: own_name for backend, (_, own_name) in model.resolution.candidates.items()},
        notes=tuple(_notes(model, rules.stages)),
        stages=tuple(_stage(label, position, model) for position, label in enumerate(stages)),
        ranking=tuple(_choices(Findings(model, rules.strategy))),
    )


def _notes(model: ConsideredModel, stages: Sequence[StageLabel]) -> Iterator[shape.Note]:
    for backend in model.resolution.candidates:
        for label, sentences in zip(stages, model.sentences, strict=False):
            if text := sentences.get(backend):
                yield shape.Note(backend=backend, stage=label.name, text=text)


def _stage(label: StageLabel, position: int, model: ConsideredModel) -> shape.StageReport:
    return shape.StageReport(
        stage=label.name,
        plugin=label.plugin,
        priority=label.priority,
        observes=label.observes,
        is_idle=label.is_idle,
        was_skipped=label.name in model.skipped,
        microseconds=round(model.spent_s[position] * 1e6, 1) if position < len(model.spent_s) else None,
        excluded=_remarks(label, model.excluded, is_excluded=True),
        avoided=_remarks(label, model.avoided),
        weighed=_remarks(label, model.weights, is_weighed=True),
        would_have=_remarks(label, model.observed),
        facts=model.facts[position] if model.facts is not None else None,
    )


def _remarks(
    label: StageLabel, verdicts: Sequence[Verdict], *, is_excluded: bool = False, is_weighed: bool = False
) -> tuple[shape.Remark, ...]:
    return tuple(
        shape.Remark(
            backend=verdict.backend,
            reason=verdict.reason,
            suggested_action=verdict.action,
            factor=verdict.factor if is_weighed else None,
            code=verdict.code if is_excluded else None,
        )
        for verdict in verdicts
        if verdict.stage == label.name
    )


def _choices(found: Findings) -> Iterator[shape.Choice]:
    for name, (rank, ranked) in found.ranks.items():
        yield shape.Choice(
            rank=rank,
            backend=name,
            model=ranked.model,
            score=ranked.score,
            share=ranked.backend.share,
            is_avoided=ranked.is_avoided,
            is_full=name in found.full,
            parts=tuple(
                shape.PartReport(
                    name=part.name, value=part.value, points=part.points, weight=part.weight, adds=part.adds
                )
                for part in found.parts(ranked)
            ),
            factors=tuple(
                shape.Factor(stage=verdict.stage, factor=verdict.factor, reason=verdict.reason)
                for verdict in found.weights.get(name, ())
            ),
        )


def _decision(decision: Decision | None, found: Round, endpoint: Endpoint) -> shape.DecisionReport:
    full = tuple(dict.fromkeys(verdict.backend for model in found.models for verdict in model.full))
    match decision:
        case Reserved():
            return shape.DecisionReport(
                decision="route",
                backend=decision.backend.name,
                model=decision.model,
                fallback_model=decision.fallback_model,
                translated=None if decision.translated_to is None else pair(endpoint.name, decision.translated_to),
                route_reason=decision.route_reason,
                reason=decision.reason,
                full=full,
            )
        case Reject():
            return shape.DecisionReport(
                decision="reject",
                full=full,
                code=decision.code,
                status=CODES[decision.code].status if decision.code in CODES else None,
                message=decision.message,
                helps=tuple(dict.fromkeys(verdict.action for verdict in decision.reasons if verdict.action)),
                retry_after_s=decision.retry_after_s,
                context=_json(decision.context),
            )
        case Saturated():
            return shape.DecisionReport(decision="queue", full=full)
        case None:
            # An internal error, which is in the log, ended the search.
            return shape.DecisionReport(decision="reject", code="internal_error", status=500)


def _json(context: Any) -> Any:
    """Return *context*, which plugins add to, as JSON values."""
    return msgspec.to_builtins(context, enc_hook=str, str_keys=True)


def _outcome(outcome: ExchangeOutcome) -> shape.OutcomeReport:
    return shape.OutcomeReport(
        status=outcome.status,
        ending=outcome.ending,
        result=outcome.result,
        code=outcome.code,
        translated=outcome.translated,
        untranslated=outcome.untranslated,
        attempts=tuple(_attempts(outcome.attempts)),
        duration_ms=_ms(outcome.duration_s),
        queued_ms=_ms(outcome.queued_s),
        first_byte_ms=None if outcome.first_byte_s is None else _ms(outcome.first_byte_s),
    )


def _attempts(attempts: Sequence[AttemptOutcome]) -> Iterator[shape.AttemptReport]:
    for attempt in attempts:
        yield shape.AttemptReport(
            backend=attempt.backend,
            model=attempt.model,
            ending=attempt.ending,
            fault=attempt.fault,
            status=attempt.status,
            duration_ms=_ms(attempt.duration_s),
            first_byte_ms=None if attempt.first_byte_s is None else _ms(attempt.first_byte_s),
        )


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
