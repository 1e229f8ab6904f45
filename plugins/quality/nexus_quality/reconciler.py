"""The stage: it avoids who has been failing and weighs down who has been slow, and lets them prove themselves."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from nexus.api import Backend, Hold, Measure, Priority, Reconciler, RoutingIntent
from nexus_quality.complaint import Complaint
from nexus_quality.config import QualityConfig
from nexus_quality.ledger import Ledger
from nexus_quality.showing import measures_of
from nexus_quality.trial import Trial

MOST_EXPLAINED: Final = 32
"""Candidates whose figures an explanation shows, the poor ones first: it has to stay short in a large fleet."""


class QualityReconciler(Reconciler):
    """Judges each candidate by what its last hour was like for the model that it would be asked for."""

    name = "quality"
    priority = Priority.QUALITY
    on_error = "skip"

    def __init__(self, config: QualityConfig, ledger: Ledger) -> None:
        self._config = config
        self._ledger = ledger

    def reconcile(self, intent: RoutingIntent) -> None:
        config, tracks = self._config, self._ledger.tracks
        self._ledger.follow(intent.snapshot)
        now_s = self._ledger.clock()
        for backend, model in intent.offers():
            track = tracks.get((backend.id, model))
            if track is None or not (complaints := track.complaints(now_s, config)):
                continue
            # Who only observes begins no trial, so that one would seem due for ever.
            if self.is_observed or not track.is_due_for_trial(now_s):
                self._pass_on(complaints, intent, backend)

    def reserve(self, intent: RoutingIntent, backend: Backend) -> Hold | None:
        track = self._ledger.tracks.get((backend.id, intent.model_on(backend)))
        now_s = self._ledger.clock()
        if track is None or not track.is_due_for_trial(now_s) or not track.complaints(now_s, self._config):
            return None
        return Trial(track, self._ledger.clock, self._config.trial_interval_seconds)

    def explain(self, intent: RoutingIntent) -> Mapping[str, Any]:
        now_s = self._ledger.clock()
        found = (self._ledger.tracks.get((backend.id, model)) for backend, model in intent.offers())
        tracks = sorted(filter(None, found), key=lambda track: not track.complaints(now_s, self._config))
        candidates = [track.figures(now_s, self._config) for track in tracks[:MOST_EXPLAINED]]
        return msgspec.to_builtins({"limits": self._config, "candidates": candidates})  # type: ignore[no-any-return]

    def measures(self) -> list[Measure]:
        return measures_of(self._ledger, self._config)

    def report(self) -> Mapping[str, Any]:
        now_s = self._ledger.clock()
        facts = {overall.name: overall.facts(now_s) for overall in self._ledger.backends.values()}
        return {"backends": {name: figures for name, figures in facts.items() if figures}}

    def _pass_on(self, complaints: tuple[Complaint, ...], intent: RoutingIntent, backend: Backend) -> None:
        for complaint in complaints:
            if complaint.avoids:
                intent.avoid(backend, stage=self.name, reason=complaint.reason, action=complaint.action)
            intent.weigh(backend, complaint.factor, stage=self.name, reason=complaint.reason)
