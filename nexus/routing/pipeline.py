"""Runs the stages in order: over the candidates of a request, and to reserve what an attempt needs."""

from collections.abc import Callable, Mapping, Sequence
from time import perf_counter
from typing import Any, Final

import msgspec

from nexus.containment import is_interrupt
from nexus.domain.backend import Backend
from nexus.domain.fleet import FleetSnapshot
from nexus.domain.outcome import AttemptOutcome, Ending
from nexus.domain.request import TokenUsage
from nexus.errors import StageFailed
from nexus.routing.intent import RoutingIntent, Verdict
from nexus.routing.model_names.resolution import Resolution
from nexus.routing.stage.api import NO_HEADERS, Hold, Refusal
from nexus.routing.stage.counters import PipelineCounters
from nexus.routing.stage.health import SLOW_S
from nexus.routing.stage.order import Place
from nexus.routing.stage.runner import Stage
from nexus.routing.verdict_memo import Marks, VerdictMemo, Versions

MAX_REMEMBERED_HOLDING: Final = 4096
"""Models on backends: a backend that takes any model is asked for names that clients choose."""


class Pipeline:
    """All stages, in order."""

    def __init__(
        self,
        places: Sequence[Place],
        clock: Callable[[], float] = perf_counter,
        *,
        policies: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        """:param policies: the keys of each traffic policy, by plugin; None: not known, so that no stage is idle."""
        self.stages: Final = tuple(Stage(place, clock, policies, self.forget) for place in places)
        # The last stage holds the slot, which is refused most often, so it is asked first.
        self._holding = tuple(stage for stage in reversed(self.stages) if stage.holds_something)
        self._clock = clock
        self._memo = VerdictMemo(self.stages)
        self._has_versions = any(stage.is_remembered and stage.has_versions for stage in self.stages)
        self._holding_at: dict[tuple[str, str, bool], tuple[Stage, ...]] = {}
        """By a backend's name, its name for the model, and whether the prompt is marked, the stages that may hold
        something for an attempt there: in this snapshot, and while the stages have these versions."""
        self._snapshot: FleetSnapshot | None = None
        self._versions: Versions = ()
        self.counters = PipelineCounters()
        self.counters.stages.update({stage.place.name: stage.counters for stage in self.stages})

    def follow(self, before: "Pipeline") -> None:
        """Continue the counters of *before*, which this pipeline replaces."""
        self.counters = before.counters
        for stage in self.stages:
            stage.health.counters = self.counters.stages.setdefault(stage.place.name, stage.counters)
        self.forget()

    def forget(self) -> None:
        """Forget the verdicts that are remembered."""
        self._memo.clear()
        self._holding_at.clear()

    def run(self, intent: RoutingIntent, alike: Resolution | None = None) -> None:
        """Let every stage exclude, avoid or weigh candidates of *intent*.

        :param alike: what its candidates come from, if it is judged like other requests for these; None if there is
            more to it: hints, an earlier attempt, or a wish for an explanation.
        :raises StageFailed: a stage failed whose failure rejects the request.
        """
        began = before = self._clock()
        if self._has_versions:
            self._memo.follow(intent.snapshot)
        known = None if alike is None else self._memo.find(intent, alike)
        if known is None:
            marks: list[Marks] = []
            self._call_from(0, intent, began, marks)
            if alike is not None:
                self._memo.learn(intent, alike, marks)
        else:
            for step in known.steps:
                if step.spared is not None:
                    step.spared.apply(intent)
                called = step.called
                if called is None:
                    continue
                if called.can_rest and called.is_resting(intent):
                    intent.spent_s.append(0.0)
                    called.counters.durations.observe(0.0)
                else:
                    excluded_before = len(intent.excluded)
                    before = self._call(called, intent, before)
                    if len(intent.excluded) != excluded_before:
                        # The stages after it have fewer candidates to judge than those that are remembered.
                        self._call_from(step.next_position, intent, before, [])
                        break
        self.counters.durations.observe(self._clock() - began)

    def _call_from(self, position: int, intent: RoutingIntent, began: float, marks: list[Marks]) -> None:
        """Call the stages from *position* on, and add to *marks*."""
        before, may_rest = began, not intent.headers
        for stage in self.stages[position:]:
            if may_rest and stage.is_spared(intent.requirements):
                intent.spent_s.append(0.0)
                stage.counters.durations.observe(0.0)
            else:
                before = self._call(stage, intent, before)
            marks.append((len(intent.excluded), len(intent.avoided), len(intent.weights)))

    def _call(self, stage: Stage, intent: RoutingIntent, before: float) -> float:
        """Call one stage, and return the time when it has finished.

        :param before: the time when the stage before it had finished.
        """
        health, excluded_before = stage.health, len(intent.excluded)
        try:
            stage.reconcile(intent)
        except BaseException as exc:
            if is_interrupt(exc):
                raise
            stage.failed("reconcile", exc)
            if health.rejects:
                raise StageFailed(stage.place.plugin, stage.place.name) from exc
            intent.skipped.append(stage.place.name)
            after = self._clock()
            took_s = after - before
        else:
            after = self._clock()
            took_s = after - before
            if health.streaks or took_s > SLOW_S:
                stage.took("reconcile", took_s)
        intent.spent_s.append(took_s)
        counters = health.counters
        counters.durations.observe(took_s)
        if len(intent.excluded) != excluded_before:
            counters.exclusions_total += len(intent.excluded) - excluded_before
        return after

    def reserve(self, intent: RoutingIntent, backend: Backend) -> "Hold | Refused":
        """Hold all that an attempt at *backend* needs, or nothing at all.

        :raises StageFailed: a stage failed whose failure rejects the request.
        """
        built_in: list[Hold] = []
        of_plugins: list[tuple[Stage, Hold]] = []
        holding: tuple[Stage, ...] | None = None
        if intent.snapshot is self._snapshot and self._memo.versions is self._versions and not intent.headers:
            wanted = intent.requirements
            is_marked = bool(wanted.prompt_blocks or wanted.conversation)
            holding = self._holding_at.get((backend.name, intent.survivors[backend.name][1], is_marked))
        for stage in self._may_hold(intent, backend) if holding is None else holding:
            try:
                held = stage.reserve(intent, backend)
            except BaseException as exc:
                if is_interrupt(exc):
                    raise
                stage.failed("reserve", exc)
                if stage.health.rejects:
                    Reservation(built_in, of_plugins).settle(_never_begun(intent, backend))
                    raise StageFailed(stage.place.plugin, stage.place.name) from exc
                continue
            if isinstance(held, Refusal):
                Reservation(built_in, of_plugins).settle(_never_begun(intent, backend))
                return Refused(stage.place.name, held)
            if held is not None:
                if stage.is_built_in:
                    built_in.append(held)
                else:
                    of_plugins.append((stage, held))
        # Mostly, a request needs a slot and nothing else.
        return built_in[0] if len(built_in) == 1 and not of_plugins else Reservation(built_in, of_plugins)

    def _may_hold(self, intent: RoutingIntent, backend: Backend) -> tuple[Stage, ...]:
        """Return the stages that may hold something for an attempt at *backend*, and remember them."""
        if intent.headers:
            return self._holding
        snapshot, versions = intent.snapshot, self._memo.versions
        is_outdated = snapshot is not self._snapshot or versions is not self._versions
        if is_outdated or len(self._holding_at) >= MAX_REMEMBERED_HOLDING:
            self._snapshot, self._versions = snapshot, versions
            self._holding_at.clear()
        model, wanted = intent.survivors[backend.name][1], intent.requirements
        holding = [stage for stage in self._holding if not (stage.wants_marks and stage.is_spared(wanted))]
        found = tuple(stage for stage in holding if stage.may_hold(backend, model))
        self._holding_at[backend.name, model, bool(wanted.prompt_blocks or wanted.conversation)] = found
        return found


class Refused(msgspec.Struct, frozen=True):
    """The refusal of a stage to hold what an attempt needs."""

    stage: str
    refusal: Refusal

    def about(self, backend: Backend) -> Verdict:
        """Return the refusal as a verdict on *backend*."""
        refusal = self.refusal
        return Verdict(backend.name, self.stage, refusal.reason, refusal.action, context=refusal.context)


class Reservation(Hold):
    """What all stages hold for one attempt, given back exactly once."""

    __slots__ = ("_cost_usd", "_is_settled", "built_in", "of_plugins")

    def __init__(self, built_in: Sequence[Hold], of_plugins: Sequence[tuple[Stage, Hold]]) -> None:
        """:param of_plugins: those of plugins, each with the stage that calls it."""
        self.built_in = built_in
        self.of_plugins = of_plugins
        self._is_settled = False
        self._cost_usd: float | None = None

    def begin_answer(self, usage: TokenUsage | None) -> None:
        for hold in self.built_in:
            hold.begin_answer(usage)
        for stage, hold in self.of_plugins:
            if type(hold).begin_answer is not Hold.begin_answer:
                stage.begin_answer(hold, usage)

    def headers(self, usage: TokenUsage | None) -> Mapping[str, str]:
        headers: Mapping[str, str] = NO_HEADERS
        for stage, hold in self.of_plugins:
            if type(hold).headers is not Hold.headers:
                headers = {**stage.headers(hold, usage), **headers}
        return headers

    def listener(self) -> Callable[[str], None] | None:
        if not self.of_plugins:
            return None
        listeners: list[Callable[[str], None]] = []
        for stage, hold in self.of_plugins:
            if type(hold).listener is not Hold.listener and (listener := stage.listener(hold)) is not None:
                listeners.append(listener)
        if len(listeners) <= 1:
            return listeners[0] if listeners else None

        def listen(text: str) -> None:
            for listener in listeners:
                listener(text)

        return listen

    def settle(self, outcome: AttemptOutcome) -> None:
        """Give everything back; a stage that fails does not keep the others from giving back."""
        if self._is_settled:
            return
        self._is_settled = True
        for hold in self.built_in:
            hold.settle(outcome)
        for stage, hold in self.of_plugins:
            stage.settle(hold, outcome)
        for stage, hold in self.of_plugins:
            if type(hold).cost_usd is not Hold.cost_usd and (cost := stage.cost_usd(hold)) is not None:
                self._cost_usd = cost + (self._cost_usd or 0.0)

    def cost_usd(self) -> float | None:
        return self._cost_usd


def _never_begun(intent: RoutingIntent, backend: Backend) -> AttemptOutcome:
    return AttemptOutcome(
        backend=backend.name, backend_id=backend.id, model=intent.resolved_model, ending=Ending.REJECTED
    )
