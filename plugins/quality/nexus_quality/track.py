"""What is measured of one model on one backend."""

from datetime import UTC, datetime
from math import inf
from typing import Final

import msgspec

from nexus_quality.config import QualityConfig
from nexus_quality.hourly_mean import HOUR, HourlyMean
from nexus_quality.overall import DAY, MINUTE_S, MINUTES_OF_TICK, Overall
from nexus_quality.penalty import Penalty, for_failures, for_slowness
from nexus_quality.windows import RollingWindow

EMA_WEIGHT: Final = 0.2
"""The weight of the newest sample."""


class Figures(msgspec.Struct, frozen=True):
    """The figures of one model on one backend, as pages show them."""

    backend: str
    model: str
    error_rate_1h: float
    """0 without requests."""
    success_rate_24h: float
    """1 without requests."""
    avg_ttft_ms: int | None
    """None if no stream began within the hour."""
    ttft_ema_ms: int | None
    """None if no stream ever began."""
    request_count_1h: int
    last_failure: datetime | None
    """None if there was none within the day."""
    is_avoided: bool
    """It fails too often."""
    is_slow: bool
    """It begins too late."""
    is_on_trial: bool


class Track:
    """The outcomes of one model on one backend, in constant memory.

    Nearly all outcomes are good ones of a track without any other in the last hour. These are only counted, and enter
    the windows together when the minute has passed or a figure is read.
    """

    __slots__ = (
        "_bad_until_minute",
        "_counted_begun",
        "_counted_ms",
        "_day",
        "_failures",
        "_first_token",
        "_judged_at",
        "_judged_by",
        "_last_failure_unix_s",
        "_next_trial_s",
        "_overall",
        "_penalties",
        "_ttft_ema_ms",
        "backend",
        "counted",
        "counting_until_s",
        "failures_total",
        "is_logged_poor",
        "is_on_trial",
        "logged_s",
        "model",
        "recorded_s",
        "trials_total",
    )

    def __init__(self, backend: str, model: str, overall: Overall | None = None) -> None:
        """:param overall: the figures of the backend, which count the same outcomes."""
        self.backend = backend
        self.model = model
        self.failures_total = 0
        self.trials_total = 0
        self.recorded_s = 0.0
        """The time of the last record, by the monotonic clock."""
        self.is_on_trial = False
        self.is_logged_poor = False
        """What was logged last, and when."""
        self.logged_s = -inf
        self._failures = HourlyMean()
        """Each sample is 1 for a failure, 0 for a success."""
        self._first_token = HourlyMean()
        """Each sample is a time in ms."""
        self._day = RollingWindow(DAY)
        self._overall = Overall(backend) if overall is None else overall
        self._ttft_ema_ms: float | None = None
        self._last_failure_unix_s = 0.0
        self._next_trial_s = 0.0
        self._penalties: tuple[Penalty, ...] = ()
        # The minute and the configuration for which these were computed; None: outdated.
        self._judged_at = 0
        self._judged_by: QualityConfig | None = None
        self._bad_until_minute = 0
        """When the last sample that was not good leaves the hour."""
        self.counting_until_s = -inf
        """Until when good outcomes are only counted: the end of the minute of those below."""
        self.counted = 0
        self._counted_begun = self._counted_ms = 0
        """The good outcomes that are not in the windows yet; of these, the streams and their times to first token."""

    def count_first_token(self, first_token_ms: int) -> None:
        """Count the time to first token of a success that is only counted."""
        self._counted_begun += 1
        self._counted_ms += first_token_ms
        self._follow(first_token_ms)

    def record(
        self, failed: bool | None, first_token_ms: int | None, now_s: float, unix_s: float, config: QualityConfig
    ) -> None:
        """Record one attempt, see :mod:`nexus_quality.evidence`.

        :param now_s: by the monotonic clock.
        :param unix_s: the same instant by the wall clock.
        """
        self.enter_counted()
        minute = int(now_s // MINUTE_S)
        is_good = True
        self._overall.record(failed, first_token_ms, minute)
        if first_token_ms is not None:
            is_good = self._first_token.add(first_token_ms, minute, config.ttft_penalty_threshold_ms, config)
            self._follow(first_token_ms)
        if failed is not None:
            is_good &= self._failures.add(failed, minute, config.error_rate_threshold, config)
            self._day.add(failed, minute // MINUTES_OF_TICK)
        if failed:
            self.failures_total += 1
            self._last_failure_unix_s = unix_s
        self.recorded_s = now_s
        # A good answer makes the next trial due at once, so that a repaired backend is back soon.
        self._next_trial_s = now_s if is_good else now_s + config.trial_interval_seconds
        self._judged_by = None
        if failed or not is_good:
            self.suspect(minute)
        elif not self.is_suspect(minute) and not self.is_logged_poor:
            self.counting_until_s = (minute + 1) * MINUTE_S

    def suspect(self, minute: int) -> None:
        """Record each outcome of the next hour by itself, since penalties are possible."""
        self.enter_counted()
        self.counting_until_s = -inf
        self._bad_until_minute = minute + HOUR

    def is_suspect(self, minute: int) -> bool:
        """Whether there may be penalties."""
        return minute < self._bad_until_minute

    def enter_counted(self) -> None:
        """Enter what was only counted into the windows, at the minute in which it was."""
        if not self.counted:
            return
        minute = int(self.counting_until_s // MINUTE_S) - 1
        counted, begun, waited_ms = self.counted, self._counted_begun, self._counted_ms
        self.counted = self._counted_begun = self._counted_ms = 0
        self._failures.add_good(counted, 0, minute)
        self._day.add(0, minute // MINUTES_OF_TICK, counted)
        if begun:
            self._first_token.add_good(begun, waited_ms, minute)
        self._overall.add_good(counted, begun, waited_ms, minute)

    def penalties(self, now_s: float, config: QualityConfig) -> tuple[Penalty, ...]:
        """Return the penalties for failing too often and for beginning too late."""
        minute = int(now_s // MINUTE_S)
        if minute != self._judged_at or self._judged_by is not config:
            self._judged_at, self._judged_by = minute, config
            self._penalties = self._judge(minute, config)
        return self._penalties

    @property
    def has_penalties(self) -> bool:
        """Whether it had any when it was judged last."""
        return bool(self._penalties)

    @property
    def next_trial_s(self) -> float:
        """When one request may be sent there without penalties, unless one is under way."""
        return self._next_trial_s

    def is_due_for_trial(self, now_s: float) -> bool:
        """Whether one request may be sent there without penalties."""
        return not self.is_on_trial and now_s >= self._next_trial_s

    def begin_trial(self) -> None:
        self.is_on_trial = True
        self.trials_total += 1

    def end_trial(self, next_trial_s: float) -> None:
        """Schedule the next trial, unless the outcome of this one changes that."""
        self.is_on_trial = False
        self._next_trial_s = next_trial_s

    def figures(self, now_s: float, config: QualityConfig) -> Figures:
        """Return the figures for pages and metrics."""
        self.enter_counted()
        minute = int(now_s // MINUTE_S)
        day = self._day
        day.move_to(minute // MINUTES_OF_TICK)
        requests, failures = self._failures.whole_hour(minute)
        begun, waited_ms = self._first_token.whole_hour(minute)
        penalties = self.penalties(now_s, config)
        return Figures(
            backend=self.backend,
            model=self.model,
            error_rate_1h=failures / requests if requests else 0.0,
            success_rate_24h=1.0 - day.total / day.count if day.count else 1.0,
            avg_ttft_ms=waited_ms // begun if begun else None,
            ttft_ema_ms=None if self._ttft_ema_ms is None else round(self._ttft_ema_ms),
            request_count_1h=requests,
            last_failure=datetime.fromtimestamp(self._last_failure_unix_s, UTC) if day.total else None,
            is_avoided=any(penalty.avoids for penalty in penalties),
            is_slow=any(not penalty.avoids for penalty in penalties),
            is_on_trial=self.is_on_trial,
        )

    def _follow(self, first_token_ms: int) -> None:
        ema = self._ttft_ema_ms
        self._ttft_ema_ms = first_token_ms if ema is None else ema + EMA_WEIGHT * (first_token_ms - ema)

    def _judge(self, minute: int, config: QualityConfig) -> tuple[Penalty, ...]:
        self.enter_counted()
        error_rate = self._failures.poor_mean(minute, config.error_rate_threshold, config)
        slow_ms = self._first_token.poor_mean(minute, config.ttft_penalty_threshold_ms, config)
        if error_rate is None and slow_ms is None:
            return ()
        failing = () if error_rate is None else (for_failures(error_rate, config),)
        return failing if slow_ms is None else (*failing, for_slowness(slow_ms, config))
