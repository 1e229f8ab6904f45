"""How long each candidate is expected to take, compared like with like."""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from nexus.domain.model_load import ANSWER_TOKEN_WEIGHT, FIRST_ANSWER_TOKENS, ModelLoad, size_class
from nexus.domain.request import Requirements
from nexus.domain.silence import Offer
from nexus.routing.ranking.candidates import VALID_S, Candidates, measured

PRIOR_WEIGHT: Final = 2.0
"""How many measurements the mean of all candidates counts for."""
POOLED_PRIOR_WEIGHT: Final = 0.5
"""The same for the mean of its deviations in other classes."""
MAX_DEVIATION: Final = 3.0
"""In doublings: a backend counts as at most eight times as slow or as fast as the mean of all candidates."""
FREE_DOUBLINGS: Final = 2.0
"""Up to four times the latency of the fastest costs no points: requests in flight already divide the work by speed."""
POINTS_PER_DOUBLING: Final = 25.0
MAX_REMEMBERED: Final = 1024


class _Known(msgspec.Struct, frozen=True):
    """Expectations for one kind of request."""

    computed_at: float
    by_name: Mapping[str, float] | None
    """Of each backend; None: nothing was measured."""
    offers: Sequence[Offer]
    in_order: Sequence[float]
    """The same for each of *offers*."""


class Latencies:
    """Expected latencies, computed at most every ``VALID_S`` for each kind of request."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, bool, int], _Known] = {}
        """By model, form and size."""

    def expected(self, candidates: Candidates, model: str, now: float, wanted: Requirements) -> Sequence[float] | None:
        """Return the expected latency of each candidate for a request, as the logarithm to base 2 of milliseconds; None
        when nothing was measured for any candidate.

        A candidate that has been silent for longer is expected to take at least as long as its silence.

        :param model: the model asked for, after aliases.
        """
        offers, figures, is_stream = candidates.offers, candidates.figures(), wanted.is_stream
        key = (model, is_stream, size_class(wanted.prompt_tokens) if is_stream else _size_of_whole(offers, wanted))
        known = self._known.get(key, _NEVER)
        if not 0.0 <= now - known.computed_at < VALID_S:
            known = self._compute(key, offers, figures, now)
        elif known.by_name is not None and known.offers != offers:
            known = self._rearrange(key, known, offers, figures, now)
        if known.by_name is None:
            return None
        return _not_below_silence(known.in_order, candidates.silences(now, is_stream=is_stream))

    def _compute(
        self, key: tuple[str, bool, int], offers: Sequence[Offer], figures: Sequence[ModelLoad], now: float
    ) -> _Known:
        _, is_stream, size = key
        expected = _doublings(figures, now, is_stream=is_stream, size=size)
        by_name = None if expected is None else {backend.name: expected[at] for at, (backend, _) in enumerate(offers)}
        if len(self._known) >= MAX_REMEMBERED:
            self._known.clear()
        known = self._known[key] = _Known(now, by_name, offers, expected or ())
        return known

    def _rearrange(
        self,
        key: tuple[str, bool, int],
        known: _Known,
        offers: Sequence[Offer],
        figures: Sequence[ModelLoad],
        now: float,
    ) -> _Known:
        """Return the same expectations for other candidates; computed anew if one is not among those known."""
        by_name = known.by_name or {}
        try:
            expected = [by_name[backend.name] for backend, _ in offers]
        except KeyError:
            return self._compute(key, offers, figures, now)
        known = self._known[key] = _Known(known.computed_at, by_name, offers, expected)
        return known


_NEVER: Final = _Known(float("-inf"), None, (), ())


def _size_of_whole(offers: Sequence[Offer], wanted: Requirements) -> int:
    """Return the size class of a request whose answer is not streamed, by its expected length."""
    backend, model = offers[0]
    figures, limit = backend.load.models.get(model), wanted.max_tokens
    answer = FIRST_ANSWER_TOKENS if figures is None else int(figures.size.answer_tokens)
    if limit is not None and limit < answer:
        answer = limit
    return size_class(wanted.prompt_tokens + ANSWER_TOKEN_WEIGHT * answer)


def expected_doublings(offers: Sequence[Offer], now: float, *, is_stream: bool, size: int = 0) -> list[float] | None:
    """Return the expected latency of each candidate without regard to silence.

    Streams are compared by the time to their first token, other responses by their whole duration, and each with those
    of the same size class: what counts is by how many doublings a candidate deviates from the mean of all candidates in
    that class. The more and the fresher its measurements, the more they count. The rest is its mean deviation in other
    classes, and finally none: a new or idle candidate is neither ahead nor behind.
    """
    return _doublings(Candidates(offers).figures(), now, is_stream=is_stream, size=size)


def _doublings(figures: Sequence[ModelLoad], now: float, *, is_stream: bool, size: int) -> list[float] | None:
    by_size = measured(figures, is_stream=is_stream)
    if not any(by_size):
        return None
    aged: list[dict[int, tuple[float, float]]] = []
    totals: dict[int, tuple[float, float]] = {}
    for classes in by_size:
        means = {each: mean.aged(now) for each, mean in classes.items()}
        for each, (weight, log_sum) in means.items():
            total_weight, total = totals.get(each, _NOTHING)
            totals[each] = total_weight + weight, total + log_sum
        aged.append(means)
    means_of_all = {each: total / weight for each, (weight, total) in totals.items() if weight}
    if not means_of_all:
        return None
    nearest = min(means_of_all, key=lambda each: abs(each - size))
    return [means_of_all[nearest] + _deviation(means, means_of_all, size) for means in aged]


_NOTHING: Final = (0.0, 0.0)


def _deviation(means: dict[int, tuple[float, float]], means_of_all: dict[int, float], size: int) -> float:
    """Return by how many doublings a candidate is slower than all are on average.

    :param means: the weight and the sum of its measurements, by size class.
    :param size: the class that counts most.
    """
    own_weight = own = other_weight = other = 0.0
    for each, (weight, log_sum) in means.items():
        if not weight:
            continue
        deviation = weight * min(MAX_DEVIATION, max(-MAX_DEVIATION, log_sum / weight - means_of_all[each]))
        if each == size:
            own_weight, own = weight, deviation
        else:
            other_weight += weight
            other += deviation
    prior = other / (other_weight + POOLED_PRIOR_WEIGHT)
    return (own + PRIOR_WEIGHT * prior) / (own_weight + PRIOR_WEIGHT)


def _not_below_silence(expected: Sequence[float], silences: Sequence[tuple[int, float]]) -> Sequence[float]:
    longer = [(at, silence) for at, silence in silences if silence > expected[at]]
    if longer:
        expected = [*expected]
        for at, silence in longer:
            expected[at] = silence
    return expected


def latency_points(doublings: float, fastest: float) -> float:
    """Return 100 for a candidate about as fast as the fastest, down to 0 for one 64 times as slow."""
    excess = doublings - fastest - FREE_DOUBLINGS
    return max(0.0, 100.0 - POINTS_PER_DOUBLING * excess) if excess > 0 else 100.0
