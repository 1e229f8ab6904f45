"""What strategies divide the work by: how busy candidates are, their shares, and turns."""

from collections.abc import Callable, Mapping, Sequence
from itertools import repeat, starmap
from math import copysign, log, log2
from typing import Final

import msgspec

from nexus.domain.backend import Backend, Status
from nexus.domain.model_load import ModelLoad
from nexus.domain.silence import Offer
from nexus.routing.ranking.candidates import BUSY_POINTS, Candidates, decline

MAX_REMEMBERED_MODELS: Final = 1024
MAX_REMEMBERED_TURNS: Final = 64
"""For one model; beyond that, turns that have passed are dropped."""

TOKEN_PART: Final = 0.5
"""The part of a request's weight that depends on its tokens."""
GUESS_DOUBLINGS: Final = 1.0
"""How far a guess of the capacity may be from the mean before it counts."""
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
    return list(load_of(Candidates(offers), now)[0])


def load_of(
    candidates: Candidates,
    now: float,
    in_flight: Sequence[int] | None = None,
) -> tuple[Sequence[float], Sequence[float | None]]:
    """Return with how many requests of usual size each candidate is busy, and how many it works on at once.

    The requests of all workers and replicas of this Nexus count half by their number, as each takes a slot, and half by
    their tokens, relative to the mean of all candidates: the sum over the candidates is the number of requests. Those
    of other clients are added as the engine reports them, and a recent failure counts as one more; else a backend that
    fails at once would look idle and get them all.

    :param in_flight: the requests in flight at each; None: they are looked up.
    """
    figures = candidates.figures()
    busy: list[float] = [*(candidates.in_flight() if in_flight is None else in_flight)]
    if len(busy) > 1 and (requests := sum(busy)):
        work = candidates.work()
        if total := sum(work):
            by_count, by_token = 1.0 - TOKEN_PART, TOKEN_PART * requests / total
            busy = [by_count * count + by_token * tokens for count, tokens in zip(busy, work, strict=True)]
    are_told = candidates.are_told()
    for at, others in candidates.of_others(now) if are_told else ():
        busy[at] += others
    for at in candidates.failing():
        busy[at] += figures[at].recent_failures(now)
    if are_told or candidates.has_learned():
        return busy, with_guesses(candidates, figures, now)
    return busy, candidates.slots


def with_guesses(candidates: Candidates, figures: Sequence[ModelLoad], now: float) -> Sequence[float | None]:
    """Return the capacities of the candidates, with guesses where none is certain.

    What is learned, or was reported by a server with no fixed number, is a guess, and equal backends must not be
    treated differently: those of one kind whose guesses are within a factor of two of their mean count as having the
    mean, as do those without a guess.
    """
    known = candidates.slots
    for group in candidates.guessable.values():
        running = [candidates.loads[at].running_at_most(now) for at in group]
        guesses = [
            guess if guess is not None else figures[at].learned.limit for at, guess in zip(group, running, strict=True)
        ]
        logs = [log2(guess) for guess in guesses if guess]
        if not logs:
            continue
        mean, known = sum(logs) / len(logs), [*known]
        for at, guess in zip(group, guesses, strict=True):
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
    until, fall = decline(backend, slots)
    if busy <= until:
        return 100.0 - fall * busy / until
    limit = backend.max_in_flight
    return max(0.0, BUSY_POINTS * (limit - busy) / (limit - until)) if until < limit else 0.0


def relative_to_shares(offers: Sequence[Offer], busy: Sequence[float]) -> Sequence[float]:
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


class Turn(msgspec.Struct, frozen=True, gc=False):
    """The turns of the candidates of one ranking."""

    offers: Sequence[Offer]
    doublings: Sequence[float] | None
    fastest: float
    now: float
    """The time of the last turn, in units of work."""
    through: Mapping[str, float]
    """When each backend will have finished its work."""
    credit: float
    """In turns."""
    first_wait: float
    draws: Sequence[float]
    """Chance between equals."""

    def cost(self, at: int) -> float:
        """Return what one request costs a candidate, relative to its share."""
        # A cost is relative to that of the fastest, as requests of all sizes take turns together.
        slowness = 1.0 if self.doublings is None else 2.0 ** (self.doublings[at] - self.fastest)
        return slowness / self.offers[at][0].share

    def tie(self, at: int) -> float:
        """Return its place in the order of turns, lowest first."""
        cost, begins = self.cost(at), self.through.get(self.offers[at][0].name)
        if begins is None:
            return self.now + self.draws[at] * cost * self.first_wait
        return max(self.now - self.credit * cost, begins) + self.draws[at] * cost * 1e-6

    def first_of(self, places: Sequence[int]) -> int:
        """Return the one of *places* whose turn comes first."""
        if self.doublings is not None or self.credit:
            return min(places, key=self.tie)
        # Equals in speed and share, of which there may be a hundred: in one go, and without their cost.
        now, through, offers, draws = self.now, self.through, self.offers, self.draws
        turns = [(max(now, through.get(offers[at][0].name, now)), draws[at], at) for at in places]
        return min(turns)[2]


class Turns:
    """Divides requests among equal candidates by share and speed: one that is half as fast gets half as many turns."""

    def __init__(self, draw: Callable[[], float]) -> None:
        self._draw = draw
        self._models: dict[str, tuple[float, dict[str, float]]] = {}
        """By model: the time of the last turn, and when each backend will have finished its work; in units of work."""
        self.last: tuple[Turn, Candidates] | None = None
        """Of the last ranking; None if it was not decided by turns."""

    def begin(self, candidates: Candidates, model: str, doublings: Sequence[float] | None) -> Turn:
        """Return the turns of *candidates*."""
        now, through = self._models.get(model, _NO_TURNS)
        draw = self._draw
        # Where shares differ, a backend catches up on turns that it was too busy for. A backend without a turn so far
        # waits for part of one; otherwise it would come first however small its share.
        credit, first_wait = (CREDITED_TURNS, 1.0) if candidates.by_share else (0.0, 1e-6)
        fastest = min(doublings) if doublings else 0.0
        draws = list(starmap(draw, repeat((), len(candidates.offers))))
        turn = Turn(candidates.offers, doublings, fastest, now, through, credit, first_wait, draws)
        self.last = turn, candidates
        return turn

    def ties(self, candidates: Candidates, model: str) -> list[float]:
        """Return the order of turns, lowest first, with chance between equals."""
        turn = self.begin(candidates, model, None)
        return [turn.tie(at) for at in range(len(candidates.offers))]

    def take(self, backend: str, model: str) -> None:
        """Record that *backend* got a request for *model*; a sole candidate takes no turn from any other."""
        if self.last is None:
            return
        last, candidates = self.last
        place = candidates.places.get(backend)
        if place is None:
            return
        cost, found = last.cost(place), self._models.get(model)
        if found is None:
            if len(self._models) >= MAX_REMEMBERED_MODELS:
                self._models.clear()
            found = 0.0, {}
        now, through = found
        begins = max(now - last.credit * cost, through.get(backend, now))
        now = max(now, begins)
        is_full = len(through) >= MAX_REMEMBERED_TURNS
        # A copy, because earlier rankings refer to the times before.
        through = {name: at for name, at in through.items() if at > now} if is_full else through.copy()
        through[backend] = begins + cost
        self._models[model] = now, through


_NO_TURNS: Final[tuple[float, Mapping[str, float]]] = (0.0, {})
