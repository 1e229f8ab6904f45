"""What is remembered of one model on one backend."""

from datetime import UTC, datetime
from math import inf
from typing import Final

import msgspec

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
        "_day",
        "_failures",
        "_first_token",
        "_judged_at",
        "_judged_by",
        "_last_failure_unix_s",
        "_next_trial_s",
        "_ttft_ema_ms",
        "backend",
        "error_rate",
        "failures_total",
        "is_on_trial",
        "is_told_poor",
        "model",
        "recorded_s",
        "slow_ms",
        "told_s",
        "trials_total",
    )

    def __init__(self, backend: str, model: str) -> None:
        self.backend = backend
        self.model = model
        self.error_rate: float | None = None
        """The share of failures for which it is to be avoided; None: it is not. As of the last :meth:`judge`."""
        self.slow_ms: float | None = None
        """The mean time to first token for which it is to be weighed down; None: it is not. As of then, too."""
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

    def is_poor(self, now_s: float, config: QualityConfig) -> bool:
        """Whether it fails too often or begins too late; :attr:`error_rate` and :attr:`slow_ms` say what of these."""
        minute = int(now_s // MINUTE_S)
        if minute != self._judged_at or self._judged_by is not config:
            self._judged_at, self._judged_by = minute, config
            self.error_rate = self._failures.poor_mean(minute, config.error_rate_threshold, config)
            self.slow_ms = self._first_token.poor_mean(minute, config.ttft_penalty_threshold_ms, config)
        return self.error_rate is not None or self.slow_ms is not None

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
        self.is_poor(now_s, config)
        return Figures(
            backend=self.backend,
            model=self.model,
            error_rate_1h=failures / requests if requests else 0.0,
            success_rate_24h=1.0 - day.total / day.count if day.count else 1.0,
            avg_ttft_ms=waited_ms // begun if begun else None,
            ttft_ema_ms=None if self._ttft_ema_ms is None else round(self._ttft_ema_ms),
            request_count_1h=requests,
            last_failure=datetime.fromtimestamp(self._last_failure_unix_s, UTC) if day.total else None,
            is_avoided=self.error_rate is not None,
            is_slow=self.slow_ms is not None,
            is_on_trial=self.is_on_trial,
        )
