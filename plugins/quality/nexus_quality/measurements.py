"""What is measured of each model on each backend of the fleet, for a bounded number of them."""

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

MAX_TRACKED: Final = 4096
"""Models on backends; beyond that, the least recently measured is forgotten."""
DAY_S: Final = 86_400.0
QUIET_S: Final = 60.0
"""Between two log lines about one of them, since one near its limit may cross it often."""


class Measurements:
    """Records outcomes; outlives reloads, so the limits come with each call."""

    def __init__(self, clock: Callable[[], float] = monotonic, max_tracked: int = MAX_TRACKED) -> None:
        self.clock = clock
        self._max_tracked = max_tracked
        self.tracks: OrderedDict[tuple[str, str], Track] = OrderedDict()
        """By backend id and model name, the least recently recorded first."""
        self.backends: dict[str, Overall] = {}
        """By backend id, all its models together."""
        self._snapshot = FleetSnapshot()

    def follow(self, snapshot: FleetSnapshot) -> None:
        """Forget backends that are not in *snapshot*, or have another URL there."""
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
        """Record every attempt of *outcome*."""
        for attempt in outcome.attempts:
            self._record(attempt, outcome.received_at + outcome.duration_s, config)

    def recent(self) -> list[Track]:
        """Return the tracks recorded within a day, by backend and model, and forget the others."""
        oldest_s = self.clock() - DAY_S
        for key in [key for key, track in self.tracks.items() if track.recorded_s < oldest_s]:
            del self.tracks[key]
        return sorted(self.tracks.values(), key=lambda track: (track.backend, track.model))

    def _record(self, attempt: AttemptOutcome, unix_s: float, config: QualityConfig) -> None:
        backend = self._snapshot.by_id.get(attempt.backend_id)
        if backend is None:
            # The backend was removed meanwhile.
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
        is_poor = bool(track.penalties(now_s, config))
        if is_poor is not track.is_logged_poor and now_s - track.logged_s >= QUIET_S:
            track.is_logged_poor, track.logged_s = is_poor, now_s
            _log(track.figures(now_s, config))

    def _track(self, attempt: AttemptOutcome) -> Track:
        key = attempt.backend_id, attempt.model
        track = self.tracks.get(key)
        if track is None:
            if len(self.tracks) >= self._max_tracked:
                self.tracks.popitem(last=False)
            track = self.tracks[key] = Track(attempt.backend, attempt.model)
        else:
            self.tracks.move_to_end(key)
        return track


def _log(figures: Figures) -> None:
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
