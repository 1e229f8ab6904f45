"""The stage: it avoids who has been failing and weighs down who has been slow, and lets them prove themselves."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from nexus.api import Backend, Hold, Measure, Priority, Reconciler, RoutingIntent
from nexus_quality.config import QualityConfig
from nexus_quality.ledger import Ledger
from nexus_quality.showing import measures_of
from nexus_quality.track import Track
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
        ledger, config = self._ledger, self._config
        ledger.follow(intent.snapshot)
        now_s = ledger.clock()
        for backend, model in intent.offers():
            track = ledger.find(backend.id, model)
            if track is None or not track.is_poor(now_s, config):
                continue
            # Who only observes begins no trial, so that one would seem due for ever.
            if self.is_observed or not track.is_due_for_trial(now_s):
                self._speak_against(intent, backend, track)

    def reserve(self, intent: RoutingIntent, backend: Backend) -> Hold | None:
        track = self._ledger.find(backend.id, intent.model_on(backend))
        now_s = self._ledger.clock()
        if track is None or not track.is_due_for_trial(now_s) or not track.is_poor(now_s, self._config):
            return None
        return Trial(track, self._ledger.clock, self._config.trial_interval_seconds)

    def explain(self, intent: RoutingIntent) -> Mapping[str, Any]:
        now_s = self._ledger.clock()
        found = (self._ledger.find(backend.id, model) for backend, model in intent.offers())
        tracks = sorted(filter(None, found), key=lambda track: not track.is_poor(now_s, self._config))
        candidates = [track.figures(now_s, self._config) for track in tracks[:MOST_EXPLAINED]]
        return msgspec.to_builtins({"limits": self._config, "candidates": candidates})  # type: ignore[no-any-return]

    def measures(self) -> list[Measure]:
        return measures_of(self._ledger, self._config)

    def _speak_against(self, intent: RoutingIntent, backend: Backend, track: Track) -> None:
        rate, waited_ms = track.error_rate, track.slow_ms
        if rate is not None:
            reason = f"Error rate {rate:.1%} exceeds threshold {self._config.error_rate_threshold:.1%}"
            intent.avoid(backend, stage=self.name, reason=reason, action="Wait for its error rate to decrease")
            # Among backends of which each is bad, the least bad one comes first.
            intent.weigh(backend, 1.0 - rate, stage=self.name, reason=reason)
        if waited_ms is not None:
            most_ms = self._config.ttft_penalty_threshold_ms
            factor = 1.0 - min(1.0, (waited_ms - most_ms) / most_ms)
            reason = f"Time to first token {waited_ms:.0f} ms exceeds {most_ms:.0f} ms"
            intent.weigh(backend, factor, stage=self.name, reason=reason)
