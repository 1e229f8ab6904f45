"""The verdicts that are the same for many requests, remembered until the fleet changes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import inf
from operator import attrgetter
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from nexus.containment import is_interrupt
from nexus.domain.fleet import FleetSnapshot
from nexus.domain.request import Requirements
from nexus.domain.silence import Offer
from nexus.routing.intent import RoutingIntent, Verdict
from nexus.routing.model_names.resolution import Resolution
from nexus.routing.stage.runner import Stage

MAX_REMEMBERED: Final = 512
"""Shapes of requests; clients choose the names, so their number must be bounded."""

Marks = tuple[int, int, int]
"""How many verdicts of each kind there were when a stage had finished: exclusions, avoidances, weights."""

Versions = tuple[int | None, ...]
"""Of the stages whose verdicts may change while the fleet does not; None: a stage failed to say it."""

Shape = tuple[str, str, tuple[object, ...], bool]
"""The model asked for, the endpoint, what the verdicts may depend on of the requirements, and whether the prompt is
marked."""

_NEEDS: Final = ("model", "needs_vision", "needs_tools", "needs_json", "needs_embeddings")


class Verdicts(msgspec.Struct, frozen=True):
    """Verdicts on the candidates of one request."""

    excluded: tuple[Verdict, ...]
    avoided: tuple[Verdict, ...]
    weights: tuple[Verdict, ...]

    def apply(self, intent: RoutingIntent) -> None:
        """Apply them to *intent*."""
        for verdict in self.excluded:
            intent.survivors.pop(verdict.backend, None)
        self.note(intent)

    def note(self, intent: RoutingIntent) -> None:
        """Add them to those of *intent*, whose candidates are already without the excluded ones."""
        if self.excluded:
            intent.excluded.extend(self.excluded)
        if self.avoided:
            intent.avoided.extend(self.avoided)
        if self.weights:
            intent.weights.extend(self.weights)


class Spared(msgspec.Struct, frozen=True):
    """Consecutive stages that are not called: idle ones, and those whose verdicts are remembered."""

    verdicts: Verdicts
    """Of all these stages."""
    counting: tuple[tuple[Stage, Verdicts], ...]
    """Each stage that counts its verdicts, and may count any."""
    exclusions: tuple[tuple[Stage, int], ...]
    """The number of exclusions of each stage that has any."""
    first_buckets: tuple[list[int], ...]
    """Of the durations of each stage, the counts of the buckets."""
    spent_s: tuple[float, ...]
    """A zero for each stage."""
    has_verdicts: bool

    def apply(self, intent: RoutingIntent) -> None:
        """Apply the verdicts to *intent*, and count them as if the stages had been called."""
        intent.spent_s.extend(self.spent_s)
        for counts in self.first_buckets:
            counts[0] += 1
        if self.has_verdicts:
            self.verdicts.apply(intent)
        for stage, count in self.exclusions:
            stage.counters.exclusions_total += count
        for stage, verdicts in self.counting:
            own = intent.shadow()
            verdicts.note(own)
            stage.count(own)


class Step(msgspec.Struct, frozen=True):
    """Stages that are spared, and then one that is called; either may be missing."""

    spared: Spared | None
    called: Stage | None
    next_position: int
    """That of the stage after it."""


class Known(msgspec.Struct, frozen=True):
    """What is known of all requests of one shape."""

    candidates: Mapping[str, Offer]
    policies: tuple[Mapping[str, Any], ...]
    max_tokens: float
    """Of prompt and answer together: more may not fit into the context of every candidate."""
    steps: tuple[Step, ...]
    versions: Versions
    """Those of the stages that have versions, when their verdicts were remembered."""


class VerdictMemo:
    """Remembers the verdicts of stages that declare what these depend on, for one pipeline."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        self._stages = tuple(stages)
        self._last = max((at for at, stage in enumerate(stages) if stage.is_remembered), default=-1)
        self._is_bounded = any(stage.is_remembered and "context" in stage.facts for stage in stages)
        by_stream = ("is_stream",) if any("stream" in stage.facts for stage in stages) else ()
        self._needs_of: Callable[[Requirements], tuple[object, ...]] = attrgetter(*_NEEDS, *by_stream)
        self._versioned = tuple(stage for stage in stages if stage.is_remembered and stage.has_versions)
        self.versions: Versions = ()
        """Those that the stages had when they were asked last: the same object until one of them has another."""
        self._known: dict[Shape, Known] = {}

    def clear(self) -> None:
        """Forget everything."""
        self._known.clear()

    def follow(self, snapshot: FleetSnapshot) -> None:
        """Ask the stages for the versions of their verdicts."""
        now: Versions = ()
        for stage in self._versioned:
            # No further call: this is done for each request.
            version: object = None
            try:
                version = stage.version(snapshot)
            except BaseException as exc:
                if is_interrupt(exc):
                    raise
                stage.failed("declare", exc)
            now += (version if isinstance(version, int) else None,)
        if now != self.versions or None in now:
            self.versions = now

    def find(self, intent: RoutingIntent, resolution: Resolution) -> Known | None:
        """Return what is known of requests like *intent*; None if it must be judged by itself."""
        wanted = intent.requirements
        is_marked = bool(wanted.prompt_blocks or wanted.conversation)
        shape = resolution.requested, intent.endpoint.name, self._needs_of(wanted), is_marked
        known = self._known.get(shape)
        if known is not None and known.candidates is not resolution.candidates:
            # Another snapshot of the fleet, which may differ in nothing that counts.
            known = _renewed(known, resolution)
            if known is not None:
                self._known[shape] = known
        if (
            known is None
            or known.policies != intent.policies
            # Not the property, as this runs for each request.
            or wanted.prompt_tokens + (wanted.max_tokens or 0) > known.max_tokens
            or known.versions is not self.versions
        ):
            return None
        return known

    def learn(self, intent: RoutingIntent, resolution: Resolution, marks: Sequence[Marks]) -> None:
        """Remember the verdicts on *intent*, which all stages have judged, unless a single request shaped them.

        :param marks: for each stage, in order.
        """
        max_tokens = _shortest_context(resolution) if self._is_bounded else inf
        if intent.skipped or intent.requirements.context_tokens > max_tokens:
            return
        excluded = 0
        for stage, mark in zip(self._stages[: max(0, self._last)], marks, strict=False):
            if mark[0] != excluded and not stage.is_remembered:
                # The stages after it judged fewer candidates than they do for other requests.
                return
            excluded = mark[0]
        if len(self._known) >= MAX_REMEMBERED:
            self._known.clear()
        steps = tuple(self._steps(intent, resolution, marks))
        wanted = intent.requirements
        is_marked = bool(wanted.prompt_blocks or wanted.conversation)
        shape = resolution.requested, intent.endpoint.name, self._needs_of(wanted), is_marked
        before = self.versions
        self.follow(intent.snapshot)
        if self.versions is before:
            self._known[shape] = Known(resolution.candidates, intent.policies, max_tokens, steps, before)

    def _steps(self, intent: RoutingIntent, resolution: Resolution, marks: Sequence[Marks]) -> Iterator[Step]:
        spared: list[tuple[Stage, Marks, Marks]] = []
        before: Marks = (0, 0, 0)
        for at, (stage, mark) in enumerate(zip(self._stages, marks, strict=True)):
            is_spared = stage.is_spared(intent.requirements)
            if is_spared or stage.is_remembered or _has_none_to_judge(stage, resolution):
                spared.append((stage, before, mark))
            else:
                yield Step(_spared(intent, spared), stage, at + 1)
                spared = []
            before = mark
        if spared:
            yield Step(_spared(intent, spared), None, len(self._stages))


def _has_none_to_judge(stage: Stage, resolution: Resolution) -> bool:
    return stage.is_choosy and not stage.may_judge_any(resolution.candidates.values())


def _renewed(known: Known, resolution: Resolution) -> Known | None:
    """Return what is known, for the candidates of *resolution*; None if they are described otherwise than before.

    Each probe makes a new snapshot, and most find nothing new: then only the time of the last check differs.
    """
    before, after = known.candidates.values(), resolution.candidates.values()
    if len(before) != len(after):
        return None
    for (backend, model), (now, model_now) in zip(before, after, strict=True):
        if backend is now and model == model_now:
            continue
        if model != model_now or not backend.is_like(now):
            return None
    return replace(known, candidates=resolution.candidates)


def _shortest_context(resolution: Resolution) -> float:
    """Return the shortest context of all candidates, in tokens; without bound if none is known."""
    facts = [backend.models.get(model) for backend, model in resolution.candidates.values()]
    return min((known.context_length for known in facts if known and known.context_length is not None), default=inf)


def _spared(intent: RoutingIntent, stages: Sequence[tuple[Stage, Marks, Marks]]) -> Spared | None:
    if not stages:
        return None
    (_, first, _), (_, _, last) = stages[0], stages[-1]
    return Spared(
        verdicts=_between(intent, first, last),
        has_verdicts=first != last,
        counting=tuple(
            (stage, _between(intent, before, after))
            for stage, before, after in stages
            if not stage.is_spared(intent.requirements) and stage.may_count(intent)
        ),
        exclusions=tuple((stage, after[0] - before[0]) for stage, before, after in stages if after[0] != before[0]),
        first_buckets=tuple(stage.counters.durations.counts for stage, _, _ in stages),
        spent_s=(0.0,) * len(stages),
    )


def _between(intent: RoutingIntent, before: Marks, after: Marks) -> Verdicts:
    """Return the verdicts that came after those of *before*, up to those of *after*."""
    kinds = (intent.excluded, intent.avoided, intent.weights)
    return Verdicts(*(tuple(kind[first:last]) for kind, first, last in zip(kinds, before, after, strict=True)))
