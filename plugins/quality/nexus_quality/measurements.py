"""What is measured of each model on each backend of the fleet, for a bounded number of them."""

from collections import OrderedDict
from collections.abc import Callable
from itertools import takewhile
from math import inf
from time import monotonic
from typing import Final

import structlog

from nexus.api import AttemptOutcome, Ending, ExchangeOutcome, FleetSnapshot
from nexus_quality.config import QualityConfig
from nexus_quality.evidence import FIRST_ERROR, first_token_ms, has_failed
from nexus_quality.overall import MINUTE_S, Overall
from nexus_quality.track import Figures, Track

log = structlog.get_logger("nexus.quality")

MAX_TRACKED: Final = 4096
"""Models on backends; beyond that, the least recently measured is forgotten."""
DAY_S: Final = 86_400.0
QUIET_S: Final = 60.0
"""Between two log lines about one of them, since one near its limit may cross it often."""

_FINISHED: Final = Ending.FINISHED
"""Kept here: up to Python 3.11, each look at a member through its class takes as long as a call."""

Place = tuple[str, str]
"""A backend's id, and the name of a model there."""


class Measurements:
    """Records outcomes; outlives reloads, so the limits come with each call."""

    def __init__(self, clock: Callable[[], float] = monotonic, max_tracked: int = MAX_TRACKED) -> None:
        self.clock = clock
        self._max_tracked = max_tracked
        self.tracks: OrderedDict[Place, Track] = OrderedDict()
        """The least recently recorded first."""
        self.suspects: dict[Place, Track] = {}
        """Those with a bad answer in the last hour; the others have no penalties."""
        self.backends: dict[str, Overall] = {}
        """By backend id, all its models together."""
        self.changes = 0
        """How often penalties may have changed: a suspect came or went, has others, or began or ended a trial."""
        self.snapshot = FleetSnapshot()
        """The last one that was followed."""
        self._cleared_at = 0
        """In minutes."""
        self._least_limit_ms = inf
        """The lowest limit of the time to first token that any configuration had."""

    def follow(self, snapshot: FleetSnapshot) -> None:
        """Forget backends that are not in *snapshot*, or have another URL there."""
        if snapshot is self.snapshot:
            return
        known = snapshot.by_id
        gone = {
            backend_id
            for backend_id, backend in self.snapshot.by_id.items()
            if backend_id not in known or known[backend_id].url != backend.url
        }
        self.snapshot = snapshot
        if gone:
            for place in [place for place in self.tracks if place[0] in gone]:
                self._forget(place)
            for backend_id in gone & self.backends.keys():
                del self.backends[backend_id]

    def apply(self, config: QualityConfig) -> None:
        """Judge by *config* from now on: what was good under a higher limit may be bad now."""
        if config.ttft_penalty_threshold_ms < self._least_limit_ms:
            self._least_limit_ms = config.ttft_penalty_threshold_ms
            self.changes += 1
            minute = int(self.clock() // MINUTE_S)
            for place, track in self.tracks.items():
                track.suspect(minute)
                self.suspects[place] = track

    def record(self, outcome: ExchangeOutcome, config: QualityConfig) -> None:
        """Record every attempt of *outcome*."""
        for attempt in outcome.attempts:
            # Every request pays for this: nearly all attempts succeed, where nothing has failed lately.
            waited_ms = first_token_ms(attempt) if attempt.is_stream else None
            if (
                attempt.ending is _FINISHED
                and attempt.fault is None
                and (attempt.status or FIRST_ERROR) < FIRST_ERROR
                and (waited_ms is None or waited_ms <= self._least_limit_ms)
                and (track := self.tracks.get(place := (attempt.backend_id, attempt.model))) is not None
                and (now_s := self.clock()) < track.counting_until_s
            ):
                track.counted += 1
                track.recorded_s = now_s
                if waited_ms is not None:
                    track.count_first_token(waited_ms)
                self.tracks.move_to_end(place)
            else:
                self._record(attempt, outcome.received_at + outcome.duration_s, config)

    def clear(self, now_s: float) -> None:
        """Clear suspects whose last bad answer is an hour old, and forget what is a day old; done once a minute."""
        minute = int(now_s // MINUTE_S)
        if minute != self._cleared_at:
            self._cleared_at = minute
            for place in [place for place, track in self.suspects.items() if not track.is_suspect(minute)]:
                del self.suspects[place]
                self.changes += 1
            oldest_s = now_s - DAY_S
            for place, _ in [*takewhile(lambda row: row[1].recorded_s < oldest_s, self.tracks.items())]:
                self._forget(place)

    def recent(self) -> list[Track]:
        """Return the tracks recorded within a day, by backend and model, and forget the others."""
        self.clear(self.clock())
        return sorted(self.tracks.values(), key=lambda track: (track.backend, track.model))

    def overall(self) -> list[Overall]:
        """Return the figures of each backend."""
        for track in self.tracks.values():
            track.enter_counted()
        return [*self.backends.values()]

    def _record(self, attempt: AttemptOutcome, unix_s: float, config: QualityConfig) -> None:
        backend = self.snapshot.by_id.get(attempt.backend_id)
        if backend is None:
            # The backend was removed meanwhile.
            return
        failed, waited_ms = has_failed(attempt, backend.kind), first_token_ms(attempt)
        if failed is None and waited_ms is None:
            return
        self.apply(config)
        now_s = self.clock()
        place = attempt.backend_id, attempt.model
        track = self._track(place, attempt.backend)
        had_penalties = track.has_penalties
        track.record(failed, waited_ms, now_s, unix_s, config)
        is_poor = bool(track.penalties(now_s, config))
        if had_penalties or is_poor:
            # They may differ, and the next trial is at another time.
            self.changes += 1
        if is_poor is not track.is_logged_poor and now_s - track.logged_s >= QUIET_S:
            track.is_logged_poor, track.logged_s = is_poor, now_s
            _log(track.figures(now_s, config))
        if track.is_suspect(int(now_s // MINUTE_S)):
            self.suspects[place] = track
        else:
            self.suspects.pop(place, None)

    def _track(self, place: Place, name: str) -> Track:
        track = self.tracks.get(place)
        if track is None:
            if len(self.tracks) >= self._max_tracked:
                self._forget(next(iter(self.tracks)))
            backend_id, model = place
            overall = self.backends.get(backend_id)
            if overall is None:
                overall = self.backends[backend_id] = Overall(name)
            track = self.tracks[place] = Track(name, model, overall)
        else:
            self.tracks.move_to_end(place)
        return track

    def _forget(self, place: Place) -> None:
        self.tracks.pop(place).enter_counted()
        if self.suspects.pop(place, None) is not None:
            self.changes += 1


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
