"""The distributions of how long requests took, of one backend, one model, or one model on one backend."""

from bisect import bisect_left

from nexus.domain.outcome import AttemptOutcome, ExchangeOutcome
from nexus.observability.metrics.histogram import (
    DURATION_BUCKETS_S,
    FIRST_CONTENT_BUCKETS_S,
    TOKEN_GAP_BUCKETS_S,
    Histogram,
    TracedHistogram,
)


class Times:
    """Three histograms, each from its first value on."""

    __slots__ = ("durations", "first_contents", "token_gaps")

    def __init__(self) -> None:
        self.durations: TracedHistogram | None = None
        """Of whole requests."""
        self.first_contents: TracedHistogram | None = None
        """To the first content of streams."""
        self.token_gaps: Histogram | None = None
        """Between two tokens of a stream, the mean of each stream."""


def observe_times(observed: tuple[Times, ...], outcome: ExchangeOutcome) -> None:
    """Record the duration of a request, and the time to its first content, in each of *observed*."""
    duration_s, request_id = outcome.duration_s, outcome.request_id
    now_unix_s = outcome.received_at + duration_s
    exemplar = request_id, duration_s, now_unix_s
    bucket = bisect_left(DURATION_BUCKETS_S, duration_s)
    for times in observed:
        if (durations := times.durations) is None:
            durations = times.durations = TracedHistogram(DURATION_BUCKETS_S)
        durations.enter(bucket, exemplar)
    first_content_s = outcome.first_byte_s
    if not outcome.is_stream or first_content_s is None:
        return
    exemplar = request_id, first_content_s, now_unix_s
    bucket = bisect_left(FIRST_CONTENT_BUCKETS_S, first_content_s)
    for times in observed:
        if (first_contents := times.first_contents) is None:
            first_contents = times.first_contents = TracedHistogram(FIRST_CONTENT_BUCKETS_S)
        first_contents.enter(bucket, exemplar)


def observe_gap(observed: tuple[Times, ...], gap_s: float) -> None:
    """Record the mean time between two tokens of one stream in each of *observed*."""
    for times in observed:
        if times.token_gaps is None:
            times.token_gaps = Histogram(TOKEN_GAP_BUCKETS_S)
        times.token_gaps.observe(gap_s)


def gap_s_of(attempt: AttemptOutcome) -> float | None:
    """Return the mean time between two tokens as the backend counted them, or else two content blocks.

    None if there was only one, or all arrived at once.
    """
    first_s, last_s, usage = attempt.first_byte_s, attempt.last_content_s, attempt.usage
    count = attempt.content_blocks if usage is None else usage.completion_tokens
    if first_s is None or last_s is None or last_s <= first_s or count < 2:
        return None
    return (last_s - first_s) / (count - 1)
