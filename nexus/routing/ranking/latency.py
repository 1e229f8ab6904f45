"""How long each candidate is expected to take, compared like with like."""

from collections.abc import Sequence
from math import log2
from typing import Final

from nexus.domain.silence import Offer, silent_s

PRIOR_WEIGHT: Final = 2.0
"""How many measurements the mean of all candidates counts for."""
MAX_DEVIATION: Final = 3.0
"""In doublings: a backend counts as at most eight times as slow or as fast as the mean of all candidates."""
FREE_DOUBLINGS: Final = 2.0
"""Up to four times the latency of the fastest costs no points: requests in flight already divide the work by speed."""
POINTS_PER_DOUBLING: Final = 25.0


def expected_doublings(offers: Sequence[Offer], now: float, *, is_stream: bool) -> list[float] | None:
    """Return the expected latency of each candidate, as the logarithm to base 2 of milliseconds.

    Streams are compared by the time to their first token, other responses by their whole duration. The more and the
    fresher the measurements of a candidate, the more they count; the rest is the mean of all candidates, so that a new
    or idle one is neither ahead nor behind. A candidate that has been silent for longer is expected to take at least
    as long as its silence. None when nothing was measured for any candidate.
    """
    aged = [_UNKNOWN] * len(offers)
    silent: list[tuple[int, float]] = []
    total = total_weight = 0.0
    for at, (backend, model) in enumerate(offers):
        figures = backend.load.models.get(model)
        if figures is not None:
            pace = figures.first_token if is_stream else figures.whole
            aged[at] = weight, log_sum = pace.aged(now)
            if pace.waiting and (silence := silent_s(backend, figures, now, is_stream=is_stream)) > 0.0:
                silent.append((at, silence))
            total_weight += weight
            total += log_sum
    if not total_weight:
        return None
    mean = total / total_weight
    expected = [mean] * len(offers)
    for at, (weight, log_sum) in enumerate(aged):
        if weight:
            deviation = min(MAX_DEVIATION, max(-MAX_DEVIATION, log_sum / weight - mean))
            expected[at] = mean + deviation * weight / (weight + PRIOR_WEIGHT)
    for at, silence in silent:
        expected[at] = max(expected[at], log2(silence * 1000))
    return expected


_UNKNOWN: Final = (0.0, 0.0)


def latency_points(doublings: float, fastest: float) -> float:
    """Return 100 for a candidate about as fast as the fastest, down to 0 for one 64 times as slow."""
    excess = doublings - fastest - FREE_DOUBLINGS
    return max(0.0, 100.0 - POINTS_PER_DOUBLING * excess) if excess > 0 else 100.0
