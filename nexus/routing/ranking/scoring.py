"""How busy and how fast each candidate is, as strategies compare them: like with like, and none by its past alone."""

from collections.abc import Callable, Mapping, Sequence
from math import log2
from typing import Final

from nexus.domain.backend import Backend
from nexus.domain.silence import silent_s
from nexus.routing.ranking import shares
from nexus.routing.ranking.shares import Offer

MAX_REMEMBERED_MODELS: Final = 1024
MAX_REMEMBERED_TURNS: Final = 64
"""Of one model; beyond, those that no longer say anything are dropped."""

BUSY_POINTS: Final = 10.0
"""What is left for one whose slots are all in use; from there to its limit, requests wait at the backend."""
PRIOR_WEIGHT: Final = 2.0
"""Measurements that the mean of all candidates counts as."""
MAX_DEVIATION: Final = 3.0
"""In doublings: eight times the mean of all candidates is as slow, or as fast, as one can look."""
FREE_DOUBLINGS: Final = 2.0
"""Up to four times as long as the fastest costs nothing: requests in flight share the work by speed as it is."""
POINTS_PER_DOUBLING: Final = 25.0
CREDITED_TURNS: Final = 3.0
"""How many turns one may make up for, where shares differ."""


def load_points(backend: Backend, model: str, now: float, in_flight: float | None = None) -> float:
    """Return what is left of 100: by the part of its limit in use, and of its slots where these are known.

    A recent failure counts as a request in flight: one that fails at once is never busy, and would get them all.

    :param in_flight: how many requests it counts as having, where shares differ; None: those that it has.
    """
    load, limit, slots = backend.load, backend.max_in_flight, backend.slots
    busy: float = load.in_flight if in_flight is None else in_flight
    if load.models and (figures := load.models.get(model)) is not None and figures.failures:
        busy += figures.recent_failures(now)
    if not busy:
        return 100.0
    if slots is None or slots >= limit:
        return 100.0 - 100.0 * busy / limit if busy < limit else 0.0
    if busy <= slots:
        return 100.0 - (100.0 - BUSY_POINTS) * busy / slots
    return max(0.0, BUSY_POINTS * (limit - busy) / (limit - slots))


def expected_doublings(offers: Sequence[Offer], now: float, *, is_stream: bool) -> list[float] | None:
    """Return how long each candidate is expected to take, as the logarithm to base 2 of milliseconds.

    Streams are compared by the time to their first token, other answers by their whole length. What was measured of a
    candidate counts the more, the more and the fresher it is; the rest is the mean of all of them, so that one that is
    new or has been idle is neither ahead nor behind. One that has left a request unanswered for longer than that, and
    shows no sign of life, is expected to take at least as long as it has been silent. None when nothing was measured
    of any.
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
    """Return what is left of 100 for one that is so much slower than the fastest; nothing at 64 times."""
    excess = doublings - fastest - FREE_DOUBLINGS
    return max(0.0, 100.0 - POINTS_PER_DOUBLING * excess) if excess > 0 else 100.0


def all_load_points(offers: Sequence[Offer], now: float) -> list[float]:
    """Return what load leaves of 100 of each of *offers*, by their shares where these differ."""
    if not shares.differ(offers):
        return [load_points(backend, model, now) for backend, model in offers]
    counted = shares.counted_in_flight(offers)
    return [load_points(backend, model, now, counted[at]) for at, (backend, model) in enumerate(offers)]


class Turns:
    """Divides what is equally good by share and speed: one that is twice as slow has its turn half as often."""

    def __init__(self, draw: Callable[[], float]) -> None:
        self._draw = draw
        self._credit = 0.0
        """In turns, of the last ranking."""
        self._models: dict[str, tuple[float, dict[str, float]]] = {}
        """By model, the time that the last one was given at, and when each backend would be through with its work, in
        work done."""
        self._costs: dict[str, float] = {}
        """By backend, what one request costs those that were ranked last, for their share."""

    def ties(self, offers: Sequence[Offer], model: str, doublings: Sequence[float] | None) -> list[float]:
        """Return whose turn it is, the lowest first; chance decides between equals."""
        now, through = self._models.get(model, _NO_TURNS)
        costs, draw = self._costs, self._draw
        costs.clear()
        # Where shares differ, one that was too busy at its turn has it later. One without a turn so far would have one
        # at once, however small its share: it waits for a part of it.
        self._credit, first_wait = (CREDITED_TURNS, 1.0) if shares.differ(offers) else (0.0, 1e-6)
        ties: list[float] = []
        for at, (backend, _) in enumerate(offers):
            name = backend.name
            costs[name] = cost = (1.0 if doublings is None else 2.0 ** doublings[at]) / backend.share
            begins = through.get(name)
            if begins is None:
                ties.append(now + draw() * cost * first_wait)
            else:
                ties.append(max(now - self._credit * cost, begins) + draw() * cost * 1e-6)
        return ties

    def took(self, backend: str, model: str) -> None:
        """Note that *backend* was given a request for *model*; one that had no rival has taken no turn of another."""
        cost = self._costs.get(backend)
        if cost is None:
            return
        found = self._models.get(model)
        if found is None:
            if len(self._models) >= MAX_REMEMBERED_MODELS:
                self._models.clear()
            found = 0.0, {}
        now, through = found
        begins = max(now - self._credit * cost, through.get(backend, now))
        now = max(now, begins)
        if len(through) >= MAX_REMEMBERED_TURNS:
            through = {name: at for name, at in through.items() if at > now}
        through[backend] = begins + cost
        self._models[model] = now, through

    def forget_rivals(self) -> None:
        """Note that the last ranking had one candidate only."""
        self._costs.clear()


_NO_TURNS: Final[tuple[float, Mapping[str, float]]] = (0.0, {})
