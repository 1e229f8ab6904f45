"""What strategies compare candidates by: load, expected latency, shares of the work, and turns."""

from collections.abc import Callable, Mapping, Sequence
from math import log, log2
from typing import Final

import msgspec

from nexus.domain.backend import Backend, Status
from nexus.domain.silence import Offer, silent_s

MAX_REMEMBERED_MODELS: Final = 1024
MAX_REMEMBERED_TURNS: Final = 64
"""For one model; beyond that, turns that have passed are dropped."""

BUSY_POINTS: Final = 10.0
"""The load points of a backend whose slots are all in use; beyond its slots, requests queue at the backend."""
PRIOR_WEIGHT: Final = 2.0
"""How many measurements the mean of all candidates counts for."""
MAX_DEVIATION: Final = 3.0
"""In doublings: a backend counts as at most eight times as slow or as fast as the mean of all candidates."""
FREE_DOUBLINGS: Final = 2.0
"""Up to four times the latency of the fastest costs no points: requests in flight already divide the work by speed."""
POINTS_PER_DOUBLING: Final = 25.0
CREDITED_TURNS: Final = 3.0
"""How many missed turns a backend may catch up on, where shares differ."""


class Ranked(msgspec.Struct, frozen=True, gc=False):
    """A candidate that no stage has excluded, with its score."""

    backend: Backend
    model: str
    """The backend's own name for the model."""
    score: float
    is_avoided: bool = False
    """Used only when no other backend is left."""
    tie: float = 0.0
    """Orders candidates of equal score, lowest first."""
    in_flight: int = 0
    """Requests in flight at the time of the ranking; the backend's own counter moves on."""
    load_points: float = 100.0
    """Of 100."""
    doublings: float | None = None
    """The expected latency of the model there, as the logarithm to base 2 of milliseconds; None when nothing was
    measured for any candidate, or there is only one."""
    latency_points: float = 100.0
    """Of 100."""

    @property
    def latency_ms(self) -> int | None:
        """The expected latency of the model there."""
        return None if self.doublings is None else round(2.0**self.doublings)

    @property
    def is_last_resort(self) -> bool:
        """Whether it is used only when no healthy backend or fallback is left."""
        return self.backend.status is not Status.HEALTHY

    def is_equal_to(self, other: "Ranked") -> bool:
        """Whether neither of the two is kept back until the other one is used up."""
        return (self.is_last_resort, self.is_avoided) == (other.is_last_resort, other.is_avoided)


def load_points(backend: Backend, model: str, now: float, in_flight: float | None = None) -> float:
    """Return 100 for an idle backend, less for the part of its limit, and of its slots if known, that is in use.

    A recent failure counts as a request in flight; else a backend that fails at once would look idle and get them all.

    :param in_flight: the requests in flight relative to its share, where shares differ; None: the actual number.
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


def all_load_points(offers: Sequence[Offer], now: float, *, by_share: bool) -> list[float]:
    """Return the load points of each of *offers*.

    :param by_share: whether shares differ, so that load is counted relative to them.
    """
    if not by_share:
        return [load_points(backend, model, now) for backend, model in offers]
    counted = counted_in_flight(offers)
    return [load_points(backend, model, now, counted[at]) for at, (backend, model) in enumerate(offers)]


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


def shares_differ(offers: Sequence[Offer]) -> bool:
    """Whether the candidates have different shares of the work."""
    first = offers[0][0].share if offers else 1.0
    for backend, _ in offers:  # noqa: SIM110 - a generator would cost more than the comparisons
        if backend.share != first:
            return True
    return False


def counted_in_flight(offers: Sequence[Offer]) -> list[float]:
    """Return the requests in flight of each candidate relative to its share.

    Candidates of the same priority are compared. A candidate with no more than its share of their requests, the new
    one included, counts as having the mean: with shares of 3 and 1, the first one with two requests is as idle as the
    other one with none, so that single requests are divided by turns as well. For any other candidate, the requests
    are divided by its share.
    """
    groups: dict[int, _Group] = {}
    for backend, _ in offers:
        groups.setdefault(backend.priority, _Group()).add(backend)
    return [groups[backend.priority].counted(backend) for backend, _ in offers]


class _Group:
    """Candidates of the same priority."""

    __slots__ = ("_in_flight", "_members", "_share")

    def __init__(self) -> None:
        self._members = 0
        self._in_flight = 0
        self._share = 0.0

    def add(self, backend: Backend) -> None:
        self._members += 1
        self._in_flight += backend.load.in_flight
        self._share += backend.share

    def counted(self, backend: Backend) -> float:
        in_flight, part = backend.load.in_flight, backend.share / self._share
        if in_flight <= (self._in_flight + 1) * part:
            return self._in_flight / self._members
        return in_flight / (part * self._members)


def random_tie(share: float, drawn: float) -> float:
    """Return a random tie, lowest first, such that each candidate comes first as often as its share says.

    The times of the first of independent events with these rates have this property.

    :param drawn: at random, from 0 to below 1.
    """
    return -log(1.0 - drawn) / share


class Turns:
    """Divides requests among equal candidates by share and speed: one that is half as fast gets half as many turns."""

    def __init__(self, draw: Callable[[], float]) -> None:
        self._draw = draw
        self._credit = 0.0
        """In turns, as of the last ranking."""
        self._models: dict[str, tuple[float, dict[str, float]]] = {}
        """By model: the time of the last turn, and when each backend will have finished its work; in units of work."""
        self._costs: dict[str, float] = {}
        """What one request costs each backend of the last ranking, relative to its share."""

    def ties(
        self, offers: Sequence[Offer], model: str, doublings: Sequence[float] | None, *, by_share: bool
    ) -> list[float]:
        """Return the order of turns, lowest first, with chance between equals."""
        now, through = self._models.get(model, _NO_TURNS)
        costs, draw = self._costs, self._draw
        costs.clear()
        # Where shares differ, a backend catches up on turns that it was too busy for. A backend without a turn so far
        # waits for part of one; otherwise it would come first however small its share.
        self._credit, first_wait = (CREDITED_TURNS, 1.0) if by_share else (0.0, 1e-6)
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

    def take(self, backend: str, model: str) -> None:
        """Record that *backend* got a request for *model*; a sole candidate takes no turn from any other."""
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

    def skip(self) -> None:
        """Record that the last ranking was not decided by turns."""
        self._costs.clear()


_NO_TURNS: Final[tuple[float, Mapping[str, float]]] = (0.0, {})
