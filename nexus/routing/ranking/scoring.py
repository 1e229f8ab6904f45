"""What strategies divide the work by: how busy candidates are, their shares, and turns."""

from collections.abc import Callable, Mapping, Sequence
from math import copysign, log, log2
from typing import Final

import msgspec

from nexus.domain.backend import Backend, Status
from nexus.domain.model_load import ANSWER_TOKEN_WEIGHT
from nexus.domain.silence import Offer

MAX_REMEMBERED_MODELS: Final = 1024
MAX_REMEMBERED_TURNS: Final = 64
"""For one model; beyond that, turns that have passed are dropped."""

TOKEN_PART: Final = 0.5
"""The part of a request's weight that depends on its tokens."""
GUESS_DOUBLINGS: Final = 1.0
"""How far a guess of the capacity may be from the mean before it counts."""
BUSY_POINTS: Final = 10.0
"""The load points of a backend whose slots are all in use; beyond its slots, requests queue at the backend."""
CREDITED_TURNS: Final = 3.0
"""How many missed turns a backend may catch up on, where shares differ."""


class Ranked(msgspec.Struct, frozen=True, gc=False):
    """A candidate that no stage has excluded, with its score."""

    backend: Backend
    model: str
    """The backend's own name for the model."""
    score: float
    tie: float = 0.0
    """Orders candidates of equal score, lowest first."""
    in_flight: int = 0
    """Requests of this Nexus in flight at the time of the ranking; the backend's own counter moves on."""
    busy: float = 0.0
    """The requests it was busy with then: its own, weighed by their tokens, and those of other clients."""
    load_points: float = 100.0
    """Of 100."""
    doublings: float | None = None
    """The expected latency of the model there, as the logarithm to base 2 of milliseconds; None when nothing was
    measured for any candidate, or there is only one."""
    latency_points: float = 100.0
    """Of 100."""
    is_avoided: bool = False
    """Used only when no other backend is left."""

    @property
    def latency_ms(self) -> int | None:
        """The expected latency of the model there."""
        return None if self.doublings is None else round(2.0**self.doublings)

    @property
    def is_last_resort(self) -> bool:
        """Whether it is used only when no healthy backend or fallback is left."""
        return self.backend.status is not Status.HEALTHY

    def is_equal_to(self, other: "Ranked", *, by_priority: bool = False) -> bool:
        """Whether it is not kept back until *other* is used up.

        :param by_priority: whether one of lower priority is kept back, too.
        """
        if by_priority and self.backend.priority > other.backend.priority:
            return False
        return (self.is_last_resort, self.is_avoided) == (other.is_last_resort, other.is_avoided)


def busy_requests(offers: Sequence[Offer], now: float) -> list[float]:
    """Return with how many requests of usual size each candidate is busy; see :func:`load_of`."""
    return load_of(offers, now)[0]


def load_of(offers: Sequence[Offer], now: float) -> tuple[list[float], list[float | None]]:
    """Return with how many requests of usual size each candidate is busy, and how many it works on at once.

    The requests of all workers and replicas of this Nexus count half by their number, as each takes a slot, and half by
    their tokens, relative to the mean of all candidates: the sum over the candidates is the number of requests. Those
    of other clients are added as the
    engine reports them, and a recent failure counts as one more; else a backend that fails at once would look idle and
    get them all.
    """
    busy: list[float] = []
    costs: list[int] = []
    slots: list[float | None] = []
    extra: list[tuple[int, float]] = []
    has_guess = False
    for backend, model in offers:
        load = backend.load
        in_flight, elsewhere = load.in_flight, load.elsewhere
        cost = load.prompt_tokens + ANSWER_TOKEN_WEIGHT * load.answer_tokens if in_flight else 0
        if elsewhere.in_flight:
            in_flight += elsewhere.in_flight
            cost += elsewhere.prompt_tokens + ANSWER_TOKEN_WEIGHT * elsewhere.answer_tokens
        busy.append(in_flight)
        costs.append(cost)
        most = None if (facts := backend.models.get(model)) is None else facts.max_in_flight
        slots.append(backend.slots if most is None else min(most, backend.slots or most))
        if load.told is not None:
            extra.append((len(costs) - 1, load.told.other_requests(now)))
            has_guess = True
        if (figures := load.models.get(model)) is not None:
            if figures.failures:
                extra.append((len(costs) - 1, figures.recent_failures(now)))
            has_guess = has_guess or figures.learned.limit is not None
    if len(costs) > 1 and (total := sum(costs)):
        by_count, by_token = 1.0 - TOKEN_PART, TOKEN_PART * sum(busy) / total
        busy = [by_count * requests + by_token * costs[at] for at, requests in enumerate(busy)]
    for at, requests in extra:
        busy[at] += requests
    return busy, _with_guesses(slots, offers, now) if has_guess else slots


def _with_guesses(known: list[float | None], offers: Sequence[Offer], now: float) -> list[float | None]:
    """Return the capacities of the candidates, with guesses where none is certain.

    What is learned, or was reported by a server with no fixed number, is a guess, and equal backends must not be
    treated differently: those of one kind whose guesses are within a factor of two of their mean count as having the
    mean, as do those without a guess.
    """
    guesses: dict[str, list[tuple[int, float | None]]] = {}
    for at, (backend, model) in enumerate(offers):
        is_limited = backend.is_limited or ((facts := backend.models.get(model)) is not None and facts.max_in_flight)
        if not (is_limited or backend.slots_are_reported):
            guess: float | None = backend.load.running_at_most(now)
            if guess is None and (figures := backend.load.models.get(model)) is not None:
                guess = figures.learned.limit
            guesses.setdefault(backend.kind.name, []).append((at, guess))
    for group in guesses.values():
        logs = [log2(guess) for _, guess in group if guess]
        mean = sum(logs) / len(logs) if logs else 0.0
        for at, guess in group if logs else ():
            excess = log2(guess) - mean if guess else 0.0
            known[at] = 2.0 ** (mean + copysign(max(0.0, abs(excess) - GUESS_DOUBLINGS), excess))
    return known


def load_points(backend: Backend, busy: float, slots: float | None) -> float:
    """Return 100 for an idle backend, less for the part of its limit, and of its slots if known, that is in use.

    :param busy: the requests it is busy with, relative to its share where shares differ.
    :param slots: how many requests it works on at once.
    """
    if not busy:
        return 100.0
    limit = backend.max_in_flight
    if slots is None or slots >= limit:
        return 100.0 - 100.0 * busy / limit if busy < limit else 0.0
    if busy <= slots:
        return 100.0 - (100.0 - BUSY_POINTS) * busy / slots
    return max(0.0, BUSY_POINTS * (limit - busy) / (limit - slots))


def shares_differ(offers: Sequence[Offer]) -> bool:
    """Whether the candidates have different shares of the work."""
    first = offers[0][0].share if offers else 1.0
    for backend, _ in offers:  # noqa: SIM110 - a generator would cost more than the comparisons
        if backend.share != first:
            return True
    return False


def relative_to_shares(offers: Sequence[Offer], busy: Sequence[float]) -> list[float]:
    """Return how busy each candidate is relative to its share.

    Candidates of the same priority are compared. A candidate with no more than its share of their requests, the new
    one included, counts as having the mean: with shares of 3 and 1, the first one with two requests is as idle as the
    other one with none, so that single requests are divided by turns as well. For any other candidate, the requests
    are divided by its share.
    """
    groups: dict[int, _Group] = {}
    for at, (backend, _) in enumerate(offers):
        groups.setdefault(backend.priority, _Group()).add(backend.share, busy[at])
    return [groups[backend.priority].relative(backend.share, busy[at]) for at, (backend, _) in enumerate(offers)]


class _Group:
    """Candidates of the same priority."""

    __slots__ = ("_busy", "_members", "_share")

    def __init__(self) -> None:
        self._members = 0
        self._busy = 0.0
        self._share = 0.0

    def add(self, share: float, busy: float) -> None:
        self._members += 1
        self._busy += busy
        self._share += share

    def relative(self, share: float, busy: float) -> float:
        part = share / self._share
        if busy <= (self._busy + 1) * part:
            return self._busy / self._members
        return busy / (part * self._members)


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
        self.costs: Final[dict[str, float]] = {}
        """What one request costs each backend of the last ranking, relative to its share."""

    def ties(
        self, offers: Sequence[Offer], model: str, doublings: Sequence[float] | None, *, by_share: bool
    ) -> list[float]:
        """Return the order of turns, lowest first, with chance between equals."""
        now, through = self._models.get(model, _NO_TURNS)
        costs, draw = self.costs, self._draw
        costs.clear()
        # Where shares differ, a backend catches up on turns that it was too busy for. A backend without a turn so far
        # waits for part of one; otherwise it would come first however small its share.
        self._credit, first_wait = (CREDITED_TURNS, 1.0) if by_share else (0.0, 1e-6)
        # A cost is relative to that of the fastest, as requests of all sizes take turns together.
        fastest = min(doublings) if doublings else 0.0
        ties: list[float] = []
        for at, (backend, _) in enumerate(offers):
            name = backend.name
            costs[name] = cost = (1.0 if doublings is None else 2.0 ** (doublings[at] - fastest)) / backend.share
            begins = through.get(name)
            if begins is None:
                ties.append(now + draw() * cost * first_wait)
            else:
                earliest = now - self._credit * cost
                ties.append((earliest if earliest > begins else begins) + draw() * cost * 1e-6)  # noqa: FURB136 - a call
        return ties

    def take(self, backend: str, model: str) -> None:
        """Record that *backend* got a request for *model*; a sole candidate takes no turn from any other."""
        cost = self.costs.get(backend)
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
        self.costs.clear()


_NO_TURNS: Final[tuple[float, Mapping[str, float]]] = (0.0, {})
