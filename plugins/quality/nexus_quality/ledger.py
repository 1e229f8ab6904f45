"""Every model on every backend of which something is remembered: as many as there is room for, and only who exists."""

from collections import OrderedDict
from collections.abc import Callable
from time import monotonic
from typing import Final

import structlog

from nexus.api import AttemptOutcome, ExchangeOutcome, FleetSnapshot
from nexus_quality.config import QualityConfig
from nexus_quality.evidence import first_token_ms, has_failed
from nexus_quality.overall import Overall
from nexus_quality.track import Figures, Track

log = structlog.get_logger("nexus.quality")

MOST_TRACKED: Final = 4096
"""Models on backends; of one more, the one that was silent for the longest time is forgotten."""
DAY_S: Final = 86_400.0
QUIET_S: Final = 60.0
"""Between two log lines about one of them: whoever is about as bad as it may be crosses the line again and again."""


class Ledger:
    """Records outcomes; it outlives reloads, and each configuration brings its own limits."""

    def __init__(self, clock: Callable[[], float] = monotonic, most_tracked: int = MOST_TRACKED) -> None:
        self.clock = clock
        self._most_tracked = most_tracked
        self.tracks: OrderedDict[tuple[str, str], Track] = OrderedDict()
        """By a backend's id and a model's name there, in the order in which something was recorded last."""
        self.backends: dict[str, Overall] = {}
        """By the backend's id, all its models together."""
        self._snapshot = FleetSnapshot()

    def follow(self, snapshot: FleetSnapshot) -> None:
        """Forget whoever is not in *snapshot*, or is another server there."""
        if snapshot is self._snapshot:
            return
        known = snapshot.by_id
        gone = {
            backend_id
            for backend_id, backend in self._snapshot.by_id.items()
            if backend_id not in known or known[backend_id].url != backend.url
        }
        self._snapshot = snapshot
        if gone:
            for key in [key for key in self.tracks if key[0] in gone]:
                del self.tracks[key]
            for backend_id in gone & self.backends.keys():
                del self.backends[backend_id]

    def record(self, outcome: ExchangeOutcome, config: QualityConfig) -> None:
        """Take in every attempt of *outcome*."""
        for attempt in outcome.attempts:
            self._record(attempt, outcome.received_at + outcome.duration_s, config)

    def living(self) -> list[Track]:
        """Return whoever was asked within a day, by backend and model; others are forgotten."""
        oldest_s = self.clock() - DAY_S
        for key in [key for key, track in self.tracks.items() if track.recorded_s < oldest_s]:
            del self.tracks[key]
        return sorted(self.tracks.values(), key=lambda track: (track.backend, track.model))

    def _record(self, attempt: AttemptOutcome, unix_s: float, config: QualityConfig) -> None:
        backend = self._snapshot.by_id.get(attempt.backend_id)
        if backend is None:
            # It has been removed meanwhile, and must not come back.
            return
        failed, waited_ms = has_failed(attempt, backend.kind), first_token_ms(attempt)
        if failed is None and waited_ms is None:
            return
        now_s = self.clock()
        overall = self.backends.get(attempt.backend_id)
        if overall is None:
            overall = self.backends[attempt.backend_id] = Overall(attempt.backend)
        overall.record(failed, waited_ms, now_s)
        track = self._track(attempt)
        track.record(failed, waited_ms, now_s, unix_s, config)
        is_poor = bool(track.complaints(now_s, config))
        if is_poor is not track.is_told_poor and now_s - track.told_s >= QUIET_S:
            track.is_told_poor, track.told_s = is_poor, now_s
            _tell(track.figures(now_s, config))

    def _track(self, attempt: AttemptOutcome) -> Track:
        key = attempt.backend_id, attempt.model
        track = self.tracks.get(key)
        if track is None:
            if len(self.tracks) >= self._most_tracked:
                self.tracks.popitem(last=False)
            track = self.tracks[key] = Track(attempt.backend, attempt.model)
        else:
            self.tracks.move_to_end(key)
        return track


def _tell(figures: Figures) -> None:
    is_poor = figures.is_avoided or figures.is_slow
    write, event = (log.warning, "quality_poor") if is_poor else (log.info, "quality_recovered")
    write(
        event,
        backend=figures.backend,
        model=figures.model,
        error_rate_1h=round(figures.error_rate_1h, 3),
        avg_ttft_ms=figures.avg_ttft_ms,
        request_count_1h=figures.request_count_1h,
    )
