"""The search for a backend: each model of the fallback chain in turn goes through the whole pipeline."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Final

import msgspec

from nexus.domain.backend import Status
from nexus.domain.fleet import FleetSnapshot
from nexus.domain.naming import Naming
from nexus.domain.request import Endpoint, Kept
from nexus.errors import StageFailed
from nexus.routing import rejections
from nexus.routing.core_stages.schedule import Schedule, route_reason
from nexus.routing.decision import Decision, Reject, Reserved, Saturated
from nexus.routing.decision_record import (
    MAX_RECORDED_BLOCKS,
    ConsideredModel,
    DecisionRecord,
    Request,
    Round,
    RoutingRules,
    StageLabel,
)
from nexus.routing.intent import RoutingIntent, Verdict
from nexus.routing.model_names import resolution as names
from nexus.routing.model_names.resolution import Resolution
from nexus.routing.model_names.resolver import Resolver
from nexus.routing.pipeline import Pipeline, Refused
from nexus.routing.policies import Policies, Policy
from nexus.routing.ranking.scoring import Ranked
from nexus.routing.stage.api import Hold
from nexus.routing.stage.order import BUILT_IN

STAGE_OF_HINT: Final[Mapping[str, str]] = {"x-nexus-privacy": "privacy"}
"""Hints that are refused if the stage that obeys them is missing: a demand for privacy must be obeyed or refused."""


class Router:
    """The routing of one configuration; a reload creates a new one."""

    def __init__(  # noqa: PLR0913 - the sections of one configuration
        self,
        *,
        pipeline: Pipeline,
        schedule: Schedule,
        naming: Naming | None = None,
        fallbacks: Mapping[str, tuple[str, ...]] | None = None,
        policies: Policies | None = None,
        default_model: str | None = None,
        translations: Mapping[str, tuple[str, ...]] | None = None,
    ) -> None:
        """:param translations: by the name of an endpoint, those to which its requests are translated, best first."""
        self.pipeline = pipeline
        self.schedule = schedule
        self.names = Resolver(naming or Naming(), fallbacks or {})
        self.resolve: Final = self.names.resolve
        self.policies = policies or Policies()
        self.default_model = default_model
        self.translations = translations or {}
        places = [stage.place for stage in pipeline.stages]
        self.rules: Final = RoutingRules(tuple(map(StageLabel.of, pipeline.stages)), schedule.strategy)
        self.built_in: Final = frozenset(place.name for place in places if place.plugin == BUILT_IN)
        """The stages that judge all requests of one kind alike, whatever their size and their client."""
        installed = {place.name for place in places}
        self.unsupported_hints: Final = {h: stage for h, stage in STAGE_OF_HINT.items() if stage not in installed}
        """Hints whose stage is not in this pipeline, each with that stage."""
        self.wants_prompt_blocks: Final = any(place.reconciler.wants_prompt_blocks for place in places)

    def resolve_nameless(self, endpoint: Endpoint, kept: Kept | None, snapshot: FleetSnapshot) -> Resolution | None:
        """Resolve a request that names no model; None when it has to name one."""
        served = (endpoint.name, *self.translations.get(endpoint.name, ()))
        return names.Nameless(endpoint, served, kept, self.default_model).resolve(snapshot, self.resolve)

    def marks_wanted(self, snapshot: FleetSnapshot) -> Callable[[str], bool] | None:
        """Return a function that says whether prompts for a model are to be hashed; None: no prompts are.

        They are if a stage wants it and there are several backends to choose from.
        """
        if not self.wants_prompt_blocks or len(snapshot.backends) <= 1:
            return None
        return partial(self.names.has_choice, snapshot)


class Routing:
    """The search for one request, which remembers the backends already tried for each model.

    Nothing is decided until :meth:`next` is called.
    """

    __slots__ = ("_reserve", "_router", "_tried", "_unserved", "_wants_facts", "policies", "record", "request")

    def __init__(self, router: Router, request: Request) -> None:
        self.request = request
        is_short = len(request.requirements.prompt_blocks) <= MAX_RECORDED_BLOCKS
        self.record = DecisionRecord(request if is_short else request.without_blocks(), router.rules, [])
        self._router = router
        self._reserve = router.pipeline.reserve
        self._wants_facts = bool(request.headers) and request.wants_explanation
        self.policies: tuple[Policy, ...] = ()
        """The policies of the model asked for, which also apply to its fallbacks."""
        self._tried: dict[str, set[str]] = {}
        self._unserved: frozenset[tuple[str, str]] = frozenset()

    @property
    def policy(self) -> Policy | None:
        """The first policy; None when none applies."""
        return self.policies[0] if self.policies else None

    def next(self, snapshot: FleetSnapshot) -> Decision:
        """Reserve the best backend that has not been tried yet.

        Call it again after :class:`Reserved` when the attempt failed, and after :class:`Saturated` when a slot may be
        free.
        """
        searched = self.record.begin_round(snapshot.backends)
        reject = self._unsupported_hint() if self.request.headers else None
        try:
            decision = reject or self._search(snapshot, searched)
        except StageFailed as failure:
            decision = rejections.stage_failed(failure, snapshot)
        searched.decision = decision
        return decision

    def another(self, snapshot: FleetSnapshot) -> Reserved | None:
        """Reserve a second backend for the model chosen last, while the first one is still working on the request.

        None, and nothing is recorded, when no healthy backend has a free slot.
        """
        chosen = self.record.last_chosen
        if chosen is None or not chosen.resolution.requested:
            return None
        considered = ConsideredModel(self._router.resolve(chosen.resolution.requested, snapshot), chosen.policies)
        searched = Round(snapshot.backends, [considered])
        if self._without_candidates(considered.resolution, snapshot) is not None:
            return None
        try:
            intent = self._rank(considered, snapshot)
            is_well = any(not (best.is_avoided or best.is_last_resort) for best in considered.ranking[:1])
            decision = self._reserve_best(considered, intent, searched) if is_well else None
        except StageFailed:
            return None
        if not isinstance(decision, Reserved):
            return None
        searched.decision = decision
        self.record.rounds.append(searched)
        return decision

    def give_back(self, reserved: Reserved) -> None:
        """Let the backend of *reserved*, the last reservation, be tried again: no attempt was made."""
        if (chosen := self.record.last_chosen) is not None:
            self._tried.get(chosen.resolution.requested, set()).discard(reserved.backend.name)

    def note_unserved(self, reserved: Reserved) -> None:
        """Let the backend of *reserved*, the last reservation, be asked at another endpoint, as it lacks this one."""
        endpoint, name = self.request.endpoint.name, reserved.backend.name
        self._unserved |= {(name, reserved.translated_to or endpoint)}
        possible = reserved.backend.endpoints & {endpoint, *self._router.translations.get(endpoint, ())}
        if not self._unserved.issuperset((name, each) for each in possible):
            self.give_back(reserved)

    def note_too_long(self, reserved: Reserved, limit: int | None) -> None:
        """Consider only backends with a longer context from now on.

        :param limit: the context in tokens that the backend's refusal names; None when it names none.
        """
        facts = reserved.backend.models.get(reserved.model)
        wanted = self.request.requirements.refused_by(limit, None if facts is None else facts.context_length)
        self.request = msgspec.structs.replace(self.request, requirements=wanted)

    def has_healthy(self, snapshot: FleetSnapshot) -> bool:
        """Whether a healthy backend of *snapshot* has the model or one of its fallbacks."""
        first = self._resolve_first(snapshot)
        return first is not None and any(
            backend.status is Status.HEALTHY
            for resolution in (first, *self._fallbacks(first, snapshot))
            for backend, _ in resolution.candidates.values()
        )

    def _unsupported_hint(self) -> Reject | None:
        unsupported = ((h, stage) for h, stage in self._router.unsupported_hints.items() if h in self.request.headers)
        return next((rejections.unsupported_hint(hint, stage) for hint, stage in unsupported), None)

    def _resolve_first(self, snapshot: FleetSnapshot) -> Resolution | None:
        """Resolve the model asked for; None when the request has to name one."""
        request, router = self.request, self._router
        model = request.requirements.model
        if model:
            first = router.resolve(model, snapshot)
        elif (nameless := router.resolve_nameless(request.endpoint, request.kept, snapshot)) is not None:
            first = nameless
        else:
            return None
        if router.policies.policies and not self.policies:
            self.policies = router.policies.of(first) if first.requested else router.policies.every
        return first

    def _fallbacks(self, first: Resolution, snapshot: FleetSnapshot) -> Iterator[Resolution]:
        """Yield each fallback that the policies allow."""
        if all(policy.fallback_allowed for policy in self.policies):
            for name in self._router.names.fallbacks_of(first):
                yield self._router.resolve(name, snapshot)

    def _search(self, snapshot: FleetSnapshot, searched: Round) -> Decision:
        """Try the model asked for and, if it has any, its fallbacks."""
        first = self._resolve_first(snapshot)
        if first is None:
            return rejections.no_model_named(snapshot)
        kept = self.request.kept
        if kept is not None and names.keeper_of(kept, snapshot) is None:
            # No fallback has the kept object.
            return rejections.kept_object_gone(kept, "")
        if self._router.names.fallbacks and len(chain := (first, *self._fallbacks(first, snapshot))) > 1:
            return self._search_chain(chain, snapshot, searched)
        considered = ConsideredModel(first, self.policies)
        searched.models.append(considered)
        if (kept is not None or not first.candidates) and (reject := self._without_candidates(first, snapshot)):
            return reject
        return self._reserve_best(considered, self._rank(considered, snapshot), searched)

    def _search_chain(self, chain: Sequence[Resolution], snapshot: FleetSnapshot, searched: Round) -> Decision:
        """Try each model of *chain* in turn; those that have only avoided backends come last."""
        rejects: dict[int, Reject] = {}
        postponed: list[tuple[int, ConsideredModel, RoutingIntent]] = []
        for position, resolution in enumerate(chain):
            considered = ConsideredModel(resolution, self._policies_for(resolution))
            searched.models.append(considered)
            if (reject := self._without_candidates(resolution, snapshot)) is not None:
                rejects[position] = reject
                continue
            intent = self._rank(considered, snapshot)
            if considered.is_avoided:
                postponed.append((position, considered, intent))
                continue
            decision = self._reserve_best(considered, intent, searched)
            if not isinstance(decision, Reject):
                return decision
            rejects[position] = decision
        # A backend that has been failing comes before an unhealthy one, whatever their models.
        for position, considered, intent in sorted(postponed, key=lambda found: found[1].ranking[0].is_last_resort):
            decision = self._reserve_best(considered, intent, searched)
            if not isinstance(decision, Reject):
                return decision
            rejects[position] = decision
        models = [resolution.requested for resolution in chain]
        return rejections.chain_exhausted(models, [rejects[position] for position in range(len(chain))], snapshot)

    def _policies_for(self, resolution: Resolution) -> tuple[Policy, ...]:
        """Return the policies for a fallback: its own and those of the model asked for, which apply together.

        Neither lifts what the other demands: if only one of the two has policies, the other has the default one.
        """
        if resolution.requested == self.request.requirements.model or not resolution.requested:
            return self.policies
        policies = self._router.policies
        first, own = self.policies, policies.of(resolution)
        if first == own:
            return first
        default = (policies.default,)
        return tuple({policy.index: policy for policy in (*(first or default), *(own or default))}.values())

    def _without_candidates(self, resolution: Resolution, snapshot: FleetSnapshot) -> Reject | None:
        """Return why no backend has what *resolution* stands for; None when one has it."""
        kept = self.request.kept
        if kept is not None and kept.backend not in resolution.candidates:
            return rejections.kept_object_gone(kept, resolution.requested)
        if resolution.candidates:
            return None
        model, router = resolution.requested, self._router
        if not model:
            return rejections.endpoint_not_served(self.request.endpoint)
        hint = router.names.naming.hint(model, snapshot)
        return rejections.unknown_model(model, snapshot, router.names.served(snapshot), hint)

    def _rank(self, considered: ConsideredModel, snapshot: FleetSnapshot) -> RoutingIntent:
        """Run the pipeline over the backends that have not been tried for the model, and rank those that are left.

        :raises StageFailed: a required stage failed, so that the request is rejected.
        """
        router, request = self._router, self.request
        resolution, policies = considered.resolution, considered.policies
        candidates, kept = resolution.candidates, request.kept
        if kept is not None:
            candidates = {kept.backend: candidates[kept.backend]}
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
            other_endpoints=router.translations.get(request.endpoint.name, ()),
            unserved=self._unserved,
        )
        considered.watch(intent)
        is_alone = request.headers or kept is not None or self._tried or self._wants_facts
        router.pipeline.run(intent, None if is_alone else resolution)
        considered.ranking = router.schedule.rank(intent)
        if self._wants_facts:
            considered.add_facts(router.pipeline.stages, intent)
        return intent

    def _reserve_best(self, considered: ConsideredModel, intent: RoutingIntent, searched: Round) -> Decision:
        """Reserve the best backend of the ranking that has a free slot."""
        resolution = considered.resolution
        full: list[Ranked] = []
        waits_for: list[Verdict] = []
        retry_in_s: float | None = None
        is_preference = False
        for ranked in considered.ranking:
            if full and not ranked.is_equal_to(full[0], by_priority=is_preference):
                # The better backends are only busy: waiting for one beats asking a backend that has been failing, and
                # one of lower priority while the better one would take the request.
                break
            held = self._reserve(intent, ranked.backend)
            if not isinstance(held, Refused):
                searched.chosen = considered
                return self._reserved(ranked, held, considered, intent, is_overflow=bool(full))
            refusal = held.refusal
            if refusal.is_saturation:
                full.append(ranked)
                waits_for.append(held.about(ranked.backend))
                considered.full = waits_for
                is_preference = is_preference or refusal.is_preference
                if refusal.retry_in_s is not None:
                    retry_in_s = min(refusal.retry_in_s, refusal.retry_in_s if retry_in_s is None else retry_in_s)
                continue
            reason, action, context = refusal.reason, refusal.action, refusal.context
            intent.exclude(ranked.backend, stage=held.stage, reason=reason, action=action, context=context)
        if full:
            backends, reasons = tuple(ranked.backend for ranked in full), tuple(intent.excluded)
            return Saturated(backends, resolution.model, tuple(waits_for), reasons, is_preference, retry_in_s)
        return rejections.no_backend_left(resolution, intent, has_tried=bool(self._tried.get(resolution.requested)))

    def _reserved(
        self, ranked: Ranked, held: Hold, considered: ConsideredModel, intent: RoutingIntent, *, is_overflow: bool
    ) -> Reserved:
        resolution, endpoint = considered.resolution, self.request.endpoint.name
        is_fallback = resolution.requested != self.request.requirements.model
        backend = ranked.backend
        may_be_translated = endpoint not in backend.endpoints or backend.unsupported or self._unserved
        is_failover = is_fallback or (bool(self._tried) and any(self._tried.values()))
        self._tried.setdefault(resolution.requested, set()).add(backend.name)
        return Reserved(
            backend=backend,
            model=ranked.model,
            holds=(held,),
            resolved_model=resolution.model,
            translated_to=intent.translated_to(backend) if may_be_translated else None,
            fallback_model=ranked.model if is_fallback else None,
            route_reason=route_reason(intent, ranked, is_failover=is_failover, is_overflow=is_overflow),
            reason=self._router.schedule.reason(ranked, len(considered.ranking)),
        )
