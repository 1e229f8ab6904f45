"""What is remembered of one model on one backend."""

from datetime import UTC, datetime
from math import inf
from typing import Final

import msgspec

from nexus_quality.complaint import Complaint, of_failing, of_slow
from nexus_quality.config import QualityConfig
from nexus_quality.trait import Trait
from nexus_quality.windows import RollingWindow

MINUTE_S: Final = 60.0
DAY: Final = 48
"""In ticks of half an hour."""
MINUTES_OF_TICK: Final = 30
EMA_WEIGHT: Final = 0.2
"""Of the newest sample."""


class Figures(msgspec.Struct, frozen=True):
    """What people are told of one model on one backend."""

    backend: str
    model: str
    error_rate_1h: float
    """0 when there were no requests."""
    success_rate_24h: float
    """1 when there were none."""
    avg_ttft_ms: int | None
    """None when no stream has begun within the hour."""
    ttft_ema_ms: int | None
    """None when none ever has."""
    request_count_1h: int
    last_failure: datetime | None
    """None when there was none within the day."""
    is_avoided: bool
    """It fails too often."""
    is_slow: bool
    """It begins too late."""
    is_on_trial: bool


class Track:
    """The outcomes of one model on one backend, in memory that does not grow with their number."""

    __slots__ = (
        "_complaints",
        "_day",
        "_failures",
        "_first_token",
        "_judged_at",
        "_judged_by",
        "_last_failure_unix_s",
        "_next_trial_s",
        "_ttft_ema_ms",
        "backend",
        "failures_total",
        "is_on_trial",
        "is_told_poor",
        "model",
        "recorded_s",
        "told_s",
        "trials_total",
    )

    def __init__(self, backend: str, model: str) -> None:
        self.backend = backend
        self.model = model
        self.failures_total = 0
        self.trials_total = 0
        self.recorded_s = 0.0
        """When something was recorded last, of the monotonic clock."""
        self.is_on_trial = False
        self.is_told_poor = False
        """What the log was told last, and when."""
        self.told_s = -inf
        self._failures = Trait()
        """Each sample is 1 for a failure, 0 for a success."""
        self._first_token = Trait()
        """Each sample is a time in ms."""
        self._day = RollingWindow(DAY)
        self._ttft_ema_ms: float | None = None
        self._last_failure_unix_s = 0.0
        self._next_trial_s = 0.0
        self._complaints: tuple[Complaint, ...] = ()
        # Of which minute and under which configuration these are; None: they have to be found anew.
        self._judged_at = 0
        self._judged_by: QualityConfig | None = None

    def record(
        self, failed: bool | None, first_token_ms: int | None, now_s: float, unix_s: float, config: QualityConfig
    ) -> None:
        """Take in one attempt, see :mod:`nexus_quality.evidence`.

        :param now_s: of the monotonic clock.
        :param unix_s: the same instant for people.
        """
        minute = int(now_s // MINUTE_S)
        is_good = True
        if first_token_ms is not None:
            is_good = self._first_token.add(first_token_ms, minute, config.ttft_penalty_threshold_ms, config)
            ema = self._ttft_ema_ms
            self._ttft_ema_ms = first_token_ms if ema is None else ema + EMA_WEIGHT * (first_token_ms - ema)
        if failed is not None:
            is_good &= self._failures.add(failed, minute, config.error_rate_threshold, config)
            self._day.add(failed, minute // MINUTES_OF_TICK)
        if failed:
            self.failures_total += 1
            self._last_failure_unix_s = unix_s
        self.recorded_s = now_s
        # One good answer asks for the next at once: whoever is mended is soon back, whoever is not fails one request.
        self._next_trial_s = now_s if is_good else now_s + config.trial_interval_seconds
        self._judged_by = None

    def complaints(self, now_s: float, config: QualityConfig) -> tuple[Complaint, ...]:
        """Return what there is to say against it: that it fails too often, that it begins too late."""
        minute = int(now_s // MINUTE_S)
        if minute != self._judged_at or self._judged_by is not config:
            self._judged_at, self._judged_by = minute, config
            self._complaints = self._judge(minute, config)
        return self._complaints

    def is_due_for_trial(self, now_s: float) -> bool:
        """Whether one request may be sent there as if nothing had been."""
        return not self.is_on_trial and now_s >= self._next_trial_s

    def begin_trial(self) -> None:
        self.is_on_trial = True
        self.trials_total += 1

    def end_trial(self, next_trial_s: float) -> None:
        """Let the next trial come then, unless what is recorded of this one says otherwise."""
        self.is_on_trial = False
        self._next_trial_s = next_trial_s

    def figures(self, now_s: float, config: QualityConfig) -> Figures:
        """Return what people are told of it."""
        minute = int(now_s // MINUTE_S)
        day = self._day
        day.move_to(minute // MINUTES_OF_TICK)
        requests, failures = self._failures.whole_hour(minute)
        begun, waited_ms = self._first_token.whole_hour(minute)
        complaints = self.complaints(now_s, config)
        return Figures(
            backend=self.backend,
            model=self.model,
            error_rate_1h=failures / requests if requests else 0.0,
            success_rate_24h=1.0 - day.total / day.count if day.count else 1.0,
            avg_ttft_ms=waited_ms // begun if begun else None,
            ttft_ema_ms=None if self._ttft_ema_ms is None else round(self._ttft_ema_ms),
            request_count_1h=requests,
            last_failure=datetime.fromtimestamp(self._last_failure_unix_s, UTC) if day.total else None,
            is_avoided=any(complaint.avoids for complaint in complaints),
            is_slow=any(not complaint.avoids for complaint in complaints),
            is_on_trial=self.is_on_trial,
        )

    def _judge(self, minute: int, config: QualityConfig) -> tuple[Complaint, ...]:
        error_rate = self._failures.poor_mean(minute, config.error_rate_threshold, config)
        slow_ms = self._first_token.poor_mean(minute, config.ttft_penalty_threshold_ms, config)
        if error_rate is None and slow_ms is None:
            return ()
        failing = () if error_rate is None else (of_failing(error_rate, config),)
        return failing if slow_ms is None else (*failing, of_slow(slow_ms, config))
