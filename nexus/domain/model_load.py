"""What is measured of one model on one backend; it ages, so that an idle backend is not judged by its past."""

from math import log2
from typing import Final

import msgspec

MAX_TRACKED_MODELS: Final = 256
"""On one backend; of one more, the one that was measured the longest time ago is forgotten."""
HALF_LIFE_S: Final = 60.0
"""After so long without a new one, a measurement counts half as much."""
FRESH_S: Final = 0.1
"""Until then it counts in full: not worth a power for each candidate of each request."""
MAX_WEIGHT: Final = 16.0
"""Measurements that count at once."""
MAX_STEP: Final = 3.0
"""In doublings: one answer that took longer than eight times the mean counts as eight times."""
MAX_LONGEST: Final = 4.0
"""In doublings: an answer that took longer than sixteen times the mean does not make all others late."""
LONGEST_ANSWER_HALF_LIFE_S: Final = 300.0
"""After so long, the longest answer is half as many doublings above the mean."""
FAILURE_HALF_LIFE_S: Final = 10.0
MIN_FAILURES: Final = 0.5
"""Less of them is none: a single failure is over after one half-life."""
SHORTEST_MS: Final = 1.0


class Pace(msgspec.Struct, eq=False):
    """A mean of latencies: geometric, so that a few slow answers do not outweigh many others, and ageing."""

    weight: float = 0.0
    """How many measurements it stands for, at the time of the last one."""
    log_sum: float = 0.0
    """The sum of their logarithms to base 2, in milliseconds."""
    measured_at: float = 0.0
    """Monotonic seconds."""
    longest: float = 0.0
    """The longest answer lately, as the logarithm to base 2 of milliseconds; nothing while nothing was measured."""
    longest_limit: int | None = None
    """The ``max_tokens`` of the request that had the longest answer; None when it had none."""
    waiting: dict[object, float] = {}
    """The requests without any content in answer, oldest first, each with the time since when it counts as waiting."""
    moved_from: float = 0.0
    """Since when the request had waited that moved to another backend for want of an answer; of several in one silence,
    the oldest."""

    def aged(self, now: float) -> tuple[float, float]:
        """Return weight and sum as they count at *now*."""
        age_s = now - self.measured_at
        if age_s < FRESH_S:
            return self.weight, self.log_sum
        left = 2.0 ** (-age_s / HALF_LIFE_S)
        return self.weight * left, self.log_sum * left

    def mean_ms(self) -> int | None:
        """Return the mean in milliseconds, None when nothing was measured."""
        return round(2.0 ** (self.log_sum / self.weight)) if self.weight else None

    def observe(self, seconds: float, now: float, max_tokens: int | None = None) -> None:
        """Take in one measurement, of a request for at most so many tokens."""
        log_ms = log2(max(seconds * 1000, SHORTEST_MS))
        weight, log_sum = self.aged(now)
        if self.weight:
            mean = self.log_sum / self.weight
            left = 2.0 ** ((self.measured_at - now) / LONGEST_ANSWER_HALF_LIFE_S)
            aged, self.longest = mean + (self.longest - mean) * left, min(log_ms, mean + MAX_LONGEST)
            if self.longest >= aged:
                self.longest_limit = max_tokens
            else:
                self.longest = aged
            log_ms = min(log_ms, mean + MAX_STEP)
        else:
            self.longest, self.longest_limit = log_ms, max_tokens
        kept = min(1.0, (MAX_WEIGHT - 1.0) / weight) if weight else 1.0
        self.weight = weight * kept + 1.0
        self.log_sum = log_sum * kept + log_ms
        self.measured_at = now


class ModelLoad(msgspec.Struct, eq=False):
    """The live figures of one model on one backend."""

    first_token: Pace = msgspec.field(default_factory=Pace)
    """From sending to the first content of streamed answers."""
    whole: Pace = msgspec.field(default_factory=Pace)
    """From sending to the end of answers that come in one piece, which are no measure for streams."""
    failures: float = 0.0
    """How many failures count, at the time of the last one."""
    failed_at: float = 0.0
    """Monotonic seconds."""
    used_at: float = 0.0
    """Monotonic seconds, of the last outcome."""
    flowing: int = 0
    """Streams that have begun and not ended."""
    progressed_at: float = 0.0
    """Monotonic seconds, when a stream began or an answer was complete last."""
    alive_at: float = 0.0
    """Monotonic seconds, when anything of an answer came last: a token of a stream, a document, or an error."""
    tries: int = 0
    """Requests that tried it while it was failing and moved to another backend, since its last good answer."""
    probing: bool = False
    """Whether the one request that a half-open breaker of this model admits is under way."""

    def begin_probing(self) -> None:
        """Mark the one request that a half-open breaker admits as under way."""
        self.probing = True

    def end_probing(self) -> None:
        """Let the half-open breaker admit another request."""
        self.probing = False

    def pace(self, *, is_stream: bool) -> Pace:
        """Return what is measured of streams, or of answers that come in one piece."""
        return self.first_token if is_stream else self.whole

    def move(self, waits_since: float, *, is_stream: bool) -> None:
        """Note that a request which had waited since then moved to another backend: the silence goes on without it."""
        pace = self.pace(is_stream=is_stream)
        pace.moved_from = min(pace.moved_from, waits_since) if pace.moved_from > self.alive_at else waits_since

    def recent_failures(self, now: float) -> float:
        """Return how many failures count at *now*; each half as much every ``FAILURE_HALF_LIFE_S``."""
        if not self.failures:
            return 0.0
        left = self.failures * 2.0 ** ((self.failed_at - now) / FAILURE_HALF_LIFE_S)
        return left if left > MIN_FAILURES else 0.0

    def fail(self, now: float) -> None:
        """Count one more failure."""
        self.failures = self.recent_failures(now) + 1.0
        self.failed_at = now
