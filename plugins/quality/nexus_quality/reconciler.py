"""The quality stage: avoids backends that fail often, ranks slow ones lower, and gives both trial requests."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from nexus.api import Backend, FleetSnapshot, Hold, Measure, Priority, Reconciler, Requirements, RoutingIntent
from nexus_quality.config import QualityConfig
from nexus_quality.judgement import Judgement
from nexus_quality.measurements import Measurements
from nexus_quality.penalty import Penalty
from nexus_quality.report import quality_measures
from nexus_quality.trial import Trial

MAX_EXPLAINED: Final = 32
"""Candidates in an explanation, those with penalties first: it must stay short in a large fleet."""


class QualityReconciler(Reconciler):
    """Judges each candidate by the last hour of the model that it would be asked for."""

    name = "quality"
    priority = Priority.QUALITY
    on_error = "skip"
    depends_on = frozenset()

    def __init__(self, config: QualityConfig, measurements: Measurements) -> None:
        self._measurements = measurements
        measurements.apply(config)
        self._config = config
        self._judgement = Judgement(config, measurements)

    def reconcile(self, intent: RoutingIntent) -> None:
        self._measurements.follow(intent.snapshot)
        survivors = intent.survivors
        for name, penalties_of in self._judgement.now(is_observed=self.is_observed).items():
            if name in survivors:
                backend, model = survivors[name]
                self._apply(penalties_of.get((backend.id, model), ()), intent, backend)

    def is_quiet(self, snapshot: FleetSnapshot, requirements: Requirements) -> bool:
        del requirements
        measurements = self._measurements
        if snapshot is not measurements.snapshot:
            measurements.follow(snapshot)
        return not measurements.suspects

    def version(self, snapshot: FleetSnapshot) -> int:
        # Asked for each request, and mostly there is no suspect: without further calls.
        measurements, judgement = self._measurements, self._judgement
        if snapshot is not measurements.snapshot:
            measurements.follow(snapshot)
        if measurements.suspects or judgement.seen_changes != measurements.changes:
            judgement.now(is_observed=self.is_observed)
        return judgement.version

    def may_hold(self, backend: Backend, model: str) -> bool:
        self._judgement.now(is_observed=self.is_observed)
        return (backend.id, model) in self._judgement.places

    def reserve(self, intent: RoutingIntent, backend: Backend) -> Hold | None:
        suspects = self._measurements.suspects
        if not suspects:
            return None
        track = suspects.get((backend.id, intent.model_on(backend)))
        now_s = self._measurements.clock()
        if track is None or not track.is_due_for_trial(now_s) or not track.penalties(now_s, self._config):
            return None
        return Trial(track, self._measurements, self._config.trial_interval_seconds)

    def explain(self, intent: RoutingIntent) -> Mapping[str, Any]:
        now_s = self._measurements.clock()
        found = (self._measurements.tracks.get((backend.id, model)) for backend, model in intent.offers())
        tracks = sorted(filter(None, found), key=lambda track: not track.penalties(now_s, self._config))
        candidates = [track.figures(now_s, self._config) for track in tracks[:MAX_EXPLAINED]]
        return msgspec.to_builtins({"limits": self._config, "candidates": candidates})  # type: ignore[no-any-return]

    def measures(self) -> list[Measure]:
        return quality_measures(self._measurements, self._config)

    def report(self) -> Mapping[str, Any]:
        now_s = self._measurements.clock()
        facts = {overall.name: overall.facts(now_s) for overall in self._measurements.overall()}
        return {"backends": {name: figures for name, figures in facts.items() if figures}}

    def _apply(self, penalties: tuple[Penalty, ...], intent: RoutingIntent, backend: Backend) -> None:
        for penalty in penalties:
            if penalty.avoids:
                intent.avoid(backend, stage=self.name, reason=penalty.reason, action=penalty.action)
            intent.weigh(backend, penalty.factor, stage=self.name, reason=penalty.reason)
