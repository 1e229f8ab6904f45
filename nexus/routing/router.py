"""The search for a backend: the model asked for, then its fallbacks, each through the whole pipeline."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from nexus.domain.backend import Backend, Status
from nexus.domain.fleet import FleetSnapshot
from nexus.domain.naming import Naming, served
from nexus.domain.request import Endpoint, Kept, Requirements
from nexus.errors import StageFailed
from nexus.routing import rejections
from nexus.routing.core_stages.schedule import Schedule
from nexus.routing.decision import Decision, Ranked, Reject, Reserved, Saturated
from nexus.routing.decision_record import Considered, DecisionRecord, Label, Request, Round, Rules
from nexus.routing.intent import RoutingIntent, Verdict
from nexus.routing.model_names.resolution import (
    Resolution,
    keeper_of,
    only_model,
    resolve,
    resolve_endpoint,
    resolve_kept,
)
from nexus.routing.pipeline import Pipeline, Refused, Reservation
from nexus.routing.policies import Policies, Policy

PROMISES: Final[Mapping[str, str]] = {"x-nexus-privacy": "privacy"}
"""Hints that must not go unheard, each with the stage that hears it: a client that asks for privacy where nobody can
promise any would learn nothing of it."""

MOST_CACHED_RESOLUTIONS: Final = 1024
"""Clients choose the names, so what is remembered about them is bounded."""


class Router:
    """Everything that one configuration says about routing; a reload makes another one."""

    def __init__(  # noqa: PLR0913 - the sections of one configuration
        self,
        *,
        pipeline: Pipeline,
        schedule: Schedule,
        naming: Naming | None = None,
        fallbacks: Mapping[str, tuple[str, ...]] | None = None,
        policies: Policies | None = None,
        default_model: str | None = None,
    ) -> None:
        self.pipeline = pipeline
        self.schedule = schedule
        self.naming = naming or Naming()
        self.fallbacks = fallbacks or {}
        self.policies = policies or Policies()
        self.default_model = default_model
        places = [stage.place for stage in pipeline.stages]
        self.rules: Final = Rules(
            tuple(Label(place.name, place.plugin, place.priority, place.observes) for place in places),
            schedule.strategy,
        )
        names = {place.name for place in places}
        self.unkept: Final = {hint: stage for hint, stage in PROMISES.items() if stage not in names}
        """Hints that no stage of this pipeline hears."""
        self._snapshot: FleetSnapshot | None = None
        self._resolutions: dict[str, Resolution] = {}
        self._served: tuple[str, ...] | None = None

    def begin(  # noqa: PLR0913 - what is known of one request
        self,
        *,
        request_id: str,
        endpoint: Endpoint,
        requirements: Requirements,
        headers: Mapping[str, str],
        received_unix_s: float,
        client_request_id: str = "",
        key_digest: bytes = b"",
        kept: Kept | None = None,
    ) -> "Routing":
        """Begin the search for one request; nothing is decided yet.

        :param kept: what the request refers to, where it is known which backend keeps that.
        """
        request = Request(
            request_id, endpoint, requirements, headers, received_unix_s, client_request_id, key_digest, kept
        )
        return Routing(self, request)

    def resolve_nameless(self, endpoint: Endpoint, kept: Kept | None, snapshot: FleetSnapshot) -> Resolution | None:
        """Return what a request stands for that names no model; None when it has to name one."""
        made_by = self.resolve(kept.model, snapshot) if kept is not None and kept.model else None
        if endpoint.model == "none":
            return resolve_endpoint(endpoint, snapshot) if kept is None else resolve_kept(kept, made_by, snapshot)
        if made_by is not None:
            return made_by
        name = None if endpoint.model == "own" else self.default_model
        if endpoint.model == "body":
            name = name or only_model(endpoint, snapshot)
            return self.resolve(name, snapshot) if name else None
        by_default = self.resolve(name, snapshot) if name else None
        if by_default is not None and any(endpoint.name in b.endpoints for b, _ in by_default.candidates.values()):
            return by_default
        return resolve_endpoint(endpoint, snapshot)

    def resolve(self, model: str, snapshot: FleetSnapshot) -> Resolution:
        """Return what *model* stands for; remembered as long as the fleet does not change."""
        self._follow(snapshot)
        if len(self._resolutions) >= MOST_CACHED_RESOLUTIONS:
            self._resolutions = {}
        found = self._resolutions.get(model)
        if found is None:
            found = self._resolutions[model] = resolve(model, snapshot, self.naming)
        return found

    def served(self, snapshot: FleetSnapshot) -> tuple[str, ...]:
        """Return the models that a backend can be asked for; remembered as long as the fleet does not change."""
        self._follow(snapshot)
        if self._served is None:
            self._served = served(snapshot)
        return self._served

    def _follow(self, snapshot: FleetSnapshot) -> None:
        """Forget what was remembered about another snapshot."""
        if snapshot is not self._snapshot:
            self._snapshot, self._resolutions, self._served = snapshot, {}, None

    def fallbacks_of(self, resolution: Resolution) -> tuple[str, ...]:
        """Return the models to try instead, under whichever of its names they are configured."""
        if not self.fallbacks:
            return ()
        return next((self.fallbacks[name] for name in resolution.names if name in self.fallbacks), ())


class Routing:
    """The search of one request; it remembers which backends have been tried for which model."""

    __slots__ = ("_router", "_tried", "_wants_facts", "policies", "record", "request")

    def __init__(self, router: Router, request: Request) -> None:
        self.request = request
        self.record = DecisionRecord(request, router.rules, [])
        self._router = router
        self._wants_facts = request.wants_explanation
        self.policies: tuple[Policy, ...] = ()
        """Of the name that was asked for; they hold for the whole chain."""
        self._tried: dict[str, set[str]] = {}

    @property
    def policy(self) -> Policy | None:
        """The first of them; None when none applies."""
        return self.policies[0] if self.policies else None

    def next(self, snapshot: FleetSnapshot) -> Decision:
        """Reserve the best backend that has not been tried yet.

        Called again after :class:`Reserved`, it means that the attempt failed; after :class:`Saturated`, that a slot
        may be free now.
        """
        searched = self.record.begin_round(snapshot.backends)
        try:
            found = self._unkept_promise() or self._search(snapshot, searched)
        except StageFailed as failure:
            found = rejections.stage_failed(failure, snapshot)
        searched.decision = found
        return found

    def another(self, snapshot: FleetSnapshot) -> Reserved | None:
        """Reserve a further backend for the model that was chosen last, while the one that was reserved is still asked.

        None, and nothing is written down, when none that is well has a free slot.
        """
        chosen = self.record.last_chosen
        if chosen is None or not chosen.resolution.requested:
            return None
        considered = Considered(self._router.resolve(chosen.resolution.requested, snapshot), chosen.policies)
        searched = Round(snapshot.backends, [considered])
        if self._without_candidates(considered.resolution, snapshot) is not None:
            return None
        try:
            intent = self._ranked(considered, snapshot)
            is_well = any(not (best.is_avoided or best.is_last_resort) for best in considered.ranking[:1])
            found = self._take(considered, intent, searched) if is_well else None
        except StageFailed:
            return None
        if not isinstance(found, Reserved):
            return None
        searched.decision = found
        self.record.rounds.append(searched)
        return found

    def refused_as_too_long(self, reserved: Reserved, limit: int | None) -> None:
        """Ask only backends with a longer context from now on.

        :param limit: the context in tokens that *reserved*'s backend names; None when it names none.
        """
        facts = reserved.backend.models.get(reserved.model)
        known = facts.context_length if facts is not None else None
        wanted = self.request.requirements
        wanted = msgspec.structs.replace(
            wanted,
            refused_context=max(wanted.refused_context, limit or known or 0),
            is_refused_unknown=wanted.is_refused_unknown or known is None,
        )
        self.request = msgspec.structs.replace(self.request, requirements=wanted)

    def _first(self, snapshot: FleetSnapshot) -> Resolution | None:
        """Return what the model asked for stands for; None when the request has to name one."""
        request, router = self.request, self._router
        model = request.requirements.model
        if model:
            first = router.resolve(model, snapshot)
        elif (nameless := router.resolve_nameless(request.endpoint, request.kept, snapshot)) is not None:
            first = nameless
        else:
            return None
        if not self.policies:
            self.policies = router.policies.of(first) if first.requested else router.policies.every
        return first

    def _further(self, first: Resolution, snapshot: FleetSnapshot) -> Iterator[Resolution]:
        """Yield each of its fallbacks that its policies allow."""
        if all(policy.fallback_allowed for policy in self.policies):
            for name in self._router.fallbacks_of(first):
                yield self._router.resolve(name, snapshot)

    def _unkept_promise(self) -> Reject | None:
        if not self.request.headers:
            return None
        unkept = ((hint, stage) for hint, stage in self._router.unkept.items() if hint in self.request.headers)
        return next((rejections.unkept_promise(hint, stage) for hint, stage in unkept), None)

    def has_healthy(self, snapshot: FleetSnapshot) -> bool:
        """Whether a healthy backend of *snapshot* has the model or one of its fallbacks."""
        first = self._first(snapshot)
        return first is not None and any(
            backend.status is Status.HEALTHY
            for resolution in (first, *self._further(first, snapshot))
            for backend, _ in resolution.candidates.values()
        )

    def _search(self, snapshot: FleetSnapshot, searched: Round) -> Decision:
        """Take each model of the chain in turn; one that only avoided backends have is put off until the others."""
        first = self._first(snapshot)
        if first is None:
            return rejections.no_model_named(snapshot)
        kept = self.request.kept
        if kept is not None and keeper_of(kept, snapshot) is None:
            # No fallback can make up for it.
            return rejections.not_kept_any_more(kept, "")
        chain = (first, *self._further(first, snapshot)) if self._router.fallbacks else (first,)
        rejects: dict[int, Reject] = {}
        put_off: list[tuple[int, Considered, RoutingIntent]] = []
        for position, resolution in enumerate(chain):
            considered = Considered(resolution, self._policies_for(resolution))
            searched.models.append(considered)
            if (reject := self._without_candidates(resolution, snapshot)) is not None:
                rejects[position] = reject
                continue
            intent = self._ranked(considered, snapshot)
            if len(chain) > 1 and considered.is_avoided:
                put_off.append((position, considered, intent))
                continue
            answer = self._take(considered, intent, searched)
            if not isinstance(answer, Reject):
                return answer
            rejects[position] = answer
        # A backend that has been failing before one that is not healthy, whichever model they have.
        for position, considered, intent in sorted(put_off, key=lambda found: found[1].ranking[0].is_last_resort):
            answer = self._take(considered, intent, searched)
            if not isinstance(answer, Reject):
                return answer
            rejects[position] = answer
        if len(chain) == 1:
            return rejects[0]
        names = [resolution.requested for resolution in chain]
        return rejections.chain_exhausted(names, [rejects[position] for position in range(len(chain))], snapshot)

    def _policies_for(self, resolution: Resolution) -> tuple[Policy, ...]:
        """Return the first name's policies, which hold for the whole chain, and the fallback's own.

        What must stay in the house stays there under any name, and neither name lifts what the other one demands: not
        even one without a policy, for which the defaults hold.
        """
        if resolution.requested == self.request.requirements.model or not resolution.requested:
            return self.policies
        policies = self._router.policies
        first, own = self.policies, policies.of(resolution)
        if first == own:
            return first
        nobodys = (policies.of_nobody,)
        return tuple({policy.index: policy for policy in (*(first or nobodys), *(own or nobodys))}.values())

    def _without_candidates(self, resolution: Resolution, snapshot: FleetSnapshot) -> Reject | None:
        """Return why no backend has what *resolution* stands for; None when one has."""
        kept = self.request.kept
        if kept is not None and kept.backend not in resolution.candidates:
            return rejections.not_kept_any_more(kept, resolution.requested)
        if resolution.candidates:
            return None
        model, router = resolution.requested, self._router
        if not model:
            return rejections.nobody_serves(self.request.endpoint)
        hint = router.naming.hint(model, snapshot)
        return rejections.unknown_model(model, snapshot, router.served(snapshot), hint)

    def _ranked(self, considered: Considered, snapshot: FleetSnapshot) -> RoutingIntent:
        """Fill in the ranking of *considered*. :raises StageFailed: as :meth:`_narrow` does."""
        intent = self._narrow(considered, snapshot)
        considered.ranking = self._router.schedule.rank(intent)
        if self._wants_facts:
            considered.facts = self._facts(intent, considered.resolution)
        return intent

    def _take(self, considered: Considered, intent: RoutingIntent, searched: Round) -> Decision:
        """Reserve the best of the ranking that can hold the request."""
        resolution = considered.resolution
        full: list[Ranked] = []
        waits_for: list[Verdict] = []
        for ranked in considered.ranking:
            if full and not ranked.is_equal_to(full[0]):
                # A better backend is left and only busy: waiting beats asking one that has been failing.
                break
            held = self._hold(intent, ranked.backend)
            if not isinstance(held, Refused):
                searched.chosen = considered
                return self._reserved(ranked, held, considered, intent, is_overflow=bool(full))
            if held.refusal.is_saturation:
                full.append(ranked)
                waits_for.append(held.about(ranked.backend))
                considered.full = waits_for
            else:
                refusal = held.refusal
                intent.exclude(
                    ranked.backend,
                    stage=held.stage,
                    reason=refusal.reason,
                    action=refusal.action,
                    context=refusal.context,
                )
        if full:
            backends = tuple(ranked.backend for ranked in full)
            return Saturated(backends, resolution.model, tuple(waits_for), tuple(intent.excluded))
        return rejections.nobody_left(resolution, intent, has_tried=resolution.requested in self._tried)

    def _narrow(self, considered: Considered, snapshot: FleetSnapshot) -> RoutingIntent:
        """Run the whole pipeline over the backends that have the model and have not been tried for it.

        :raises StageFailed: a stage failed that must not be left out.
        """
        request, resolution, policies = self.request, considered.resolution, considered.policies
        candidates = resolution.candidates
        if request.kept is not None:
            candidates = {request.kept.backend: candidates[request.kept.backend]}
        if tried := self._tried.get(resolution.requested):
            candidates = {name: offer for name, offer in candidates.items() if name not in tried}
        intent = RoutingIntent(
            request_id=request.id,
            endpoint=request.endpoint,
            requirements=request.requirements,
            resolved_model=resolution.model,
            snapshot=snapshot,
            survivors=dict(candidates),
            headers=request.headers,
            policies=tuple([policy.keys for policy in policies]) if policies else (),
            received_unix_s=request.received_unix_s,
        )
        considered.watch(intent)
        self._router.pipeline.run(intent)
        return intent

    def _facts(self, intent: RoutingIntent, resolution: Resolution) -> tuple[Mapping[str, Any], ...]:
        """Return on what each stage judges; it is shown all candidates again, those that are out among them."""
        whole = msgspec.structs.replace(intent, survivors=dict(resolution.candidates))
        return tuple(stage.explain(whole) for stage in self._router.pipeline.stages)

    def _hold(self, intent: RoutingIntent, backend: Backend) -> Reservation | Refused:
        """Hold what an attempt needs. :raises StageFailed: as :meth:`Pipeline.reserve` does."""
        return self._router.pipeline.reserve(intent, backend)

    def _reserved(
        self, ranked: Ranked, held: Reservation, considered: Considered, intent: RoutingIntent, *, is_overflow: bool
    ) -> Reserved:
        resolution = considered.resolution
        is_fallback = resolution.requested != self.request.requirements.model
        is_failover = is_fallback or bool(self._tried)
        self._tried.setdefault(resolution.requested, set()).add(ranked.backend.name)
        return Reserved(
            backend=ranked.backend,
            model=ranked.model,
            holds=(held,),
            resolved_model=resolution.model,
            fallback_model=ranked.model if is_fallback else None,
            route_reason=_route_reason(intent, ranked, is_failover=is_failover, is_overflow=is_overflow),
            reason=self._router.schedule.reason(ranked, len(considered.ranking)),
        )


def _route_reason(intent: RoutingIntent, ranked: Ranked, *, is_failover: bool, is_overflow: bool) -> str:
    """Return the one word for the client's header, from what happened, never from the text of a reason."""
    if ranked.is_last_resort:
        return "last-resort"
    if is_failover:
        return "failover"
    if intent.excluded and any(verdict.stage == "privacy" for verdict in intent.excluded):
        return "privacy-requirement"
    return "capacity-overflow" if is_overflow else "capability-match"
