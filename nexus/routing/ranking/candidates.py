"""What does not move between two rankings of the same candidates."""

from collections.abc import Callable, Mapping, Sequence
from math import inf, log2
from operator import attrgetter
from typing import Final

from nexus.domain.backend import Backend
from nexus.domain.backend_load import BackendLoad
from nexus.domain.changes import CHANGES
from nexus.domain.engine_report import EngineReport
from nexus.domain.model_load import Mean, ModelLoad
from nexus.domain.silence import Offer, remarkably_silent, silent_s
from nexus.routing.ranking.judged import RememberedJudgement

MAX_REMEMBERED: Final = 1024
"""Models, each with some number of candidates; clients choose the names."""
FEW: Final = 8
"""So many candidates are looked at one by one as fast as together."""
VALID_S: Final = 0.1
"""How long what was found of many candidates is used again, where it moves slowly."""
BUSY_POINTS: Final = 10.0
"""The load points of a backend whose slots are all in use; beyond its slots, requests queue at the backend."""

NO_FIGURES: Final = ModelLoad()
"""Of a model that its backend was not asked for yet; never changed."""

# These run in C, and go around the properties: with a hundred backends, that saves some microseconds.
_EVERYWHERE: Final[Callable[[BackendLoad], int]] = attrgetter("_everywhere")
_WORK: Final[Callable[[BackendLoad], int]] = attrgetter("_work")
_TOLD: Final[Callable[[BackendLoad], EngineReport | None]] = attrgetter("_told")
_LEARNED: Final[Callable[[ModelLoad], float | None]] = attrgetter("learned.limit")
_FIRST_TOKENS: Final[Callable[[ModelLoad], dict[object, float]]] = attrgetter("first_token.waiting")
_FIRST_TOKEN_MEANS: Final[Callable[[ModelLoad], dict[int, Mean]]] = attrgetter("first_token.by_size")
_WHOLE_MEANS: Final[Callable[[ModelLoad], dict[int, Mean]]] = attrgetter("whole.by_size")
_WHOLE: Final[Callable[[ModelLoad], dict[object, float]]] = attrgetter("whole.waiting")


class Candidates:
    """The candidates of a ranking, in their order, with what is the same as long as they are."""

    __slots__ = (
        "_are_told",
        "_books",
        "_capacities",
        "_declines",
        "_failing",
        "_failures",
        "_figures",
        "_guessable",
        "_has_learned",
        "_knees",
        "_others",
        "_places",
        "_reports",
        "_silences",
        "_silent",
        "by_share",
        "judgement",
        "kept",
        "loads",
        "offers",
        "priorities",
        "slots",
    )

    def __init__(self, offers: Sequence[Offer]) -> None:
        self.offers = offers
        self.loads: Final[list[BackendLoad]] = [backend.load for backend, _ in offers]
        self.priorities: Final = [100 - min(backend.priority, 100) for backend, _ in offers]
        """What their priorities are worth: 0 to 100 points each."""
        self.by_share: Final = len({backend.share for backend, _ in offers}) > 1
        """Whether they have different shares of the work."""
        self.slots: Final = [certain_slots(*offer) for offer in offers]
        """How many requests each works on at once, as far as that is certain."""
        self.judgement: Final = RememberedJudgement()
        """What the stages have said of them."""
        self.kept: tuple[Sequence[float], Sequence[float]] | None = None
        """What the strategy finds once: their scores while none is busy or slow, and by how much these fall with each
        request until their points fall at another rate; None: not computed yet."""
        self._places: dict[str, int] | None = None
        self._declines: list[Decline] | None = None
        self._knees: list[float] | None = None
        self._guessable: dict[str, list[int]] | None = None
        self._figures: list[ModelLoad] = []
        self._failing: list[int] = []
        self._has_learned = False
        # The numbers of changes until which these are known.
        self._books = self._reports = -1
        self._failures = self._capacities = (-1, -1)
        self._silent: dict[bool, tuple[float, Mapping[str, float]]] = {}
        self._silences: dict[bool, tuple[float, Sequence[tuple[int, float]]]] = {}
        self._are_told = False
        self._others: list[tuple[int, EngineReport]] = []

    @property
    def places(self) -> dict[str, int]:
        """The position of each, by its name."""
        if self._places is None:
            self._places = {backend.name: at for at, (backend, _) in enumerate(self.offers)}
        return self._places

    @property
    def guessable(self) -> dict[str, list[int]]:
        """By kind, the positions of those for which it is not certain how many requests they work on at once."""
        if self._guessable is None:
            self._guessable = {}
            for at, (backend, model) in enumerate(self.offers):
                facts = backend.models.get(model)
                is_certain = backend.is_limited or backend.slots_are_reported
                if not (is_certain or (facts is not None and facts.max_in_flight)):
                    self._guessable.setdefault(backend.kind.name, []).append(at)
        return self._guessable

    @property
    def knees(self) -> list[float]:
        """Up to how many requests the load points of each fall evenly."""
        if self._knees is None:
            self._knees = [until for until, _ in self.declines]
        return self._knees

    @property
    def declines(self) -> "list[Decline]":
        """For each, how its load points fall with the requests that it is busy with."""
        if self._declines is None:
            # Most backends are alike.
            alike: dict[Decline, Decline] = {}
            found = (decline(backend, slots) for (backend, _), slots in zip(self.offers, self.slots, strict=True))
            self._declines = [alike.setdefault(each, each) for each in found]
        return self._declines

    def in_flight(self) -> list[int]:
        """Return the requests of this Nexus in flight at each, those of its other workers and replicas included."""
        return list(map(_EVERYWHERE, self.loads))

    def work(self) -> list[int]:
        """Return the tokens of these requests at each, by the time that they take."""
        return list(map(_WORK, self.loads))

    def are_told(self) -> bool:
        """Whether an engine has reported its load; reads the reports for :meth:`of_others`."""
        if self._reports != CHANGES.reports:
            self._reports = CHANGES.reports
            told = list(map(_TOLD, self.loads))
            self._are_told = any(told)
            self._others = [
                (at, report)
                for at, report in enumerate(told)
                if report is not None and (report.requests or 0) > report.own_requests
            ]
        return self._are_told

    def of_others(self, now: float) -> list[tuple[int, float]]:
        """Return the positions of engines that have reported requests of other clients, and how many."""
        return [(at, report.other_requests(now)) for at, report in self._others]

    def figures(self) -> list[ModelLoad]:
        """Return the figures of the model at each."""
        if self._books != CHANGES.books:
            self._books = CHANGES.books
            self._figures = [backend.load.models.get(own_name, NO_FIGURES) for backend, own_name in self.offers]
        return self._figures

    def failing(self) -> list[int]:
        """Return the positions of those that have failed."""
        changes = CHANGES.failures, CHANGES.books
        if self._failures != changes:
            self._failures = changes
            self._failing = [at for at, each in enumerate(self.figures()) if each.failures]
        return self._failing

    def has_learned(self) -> bool:
        """Whether the capacity of one of them has been learned."""
        changes = CHANGES.capacities, CHANGES.books
        if self._capacities != changes:
            self._capacities = changes
            self._has_learned = any(map(_LEARNED, self.figures()))
        return self._has_learned

    def silent(self, now: float, *, is_stream: bool) -> Mapping[str, float]:
        """Return the seconds of silence of those that are silent for longer than answers take, by their names.

        Of many, these were found at most ``VALID_S`` ago: that is little beside the silences that count.
        """
        found_at, found = self._silent.get(is_stream, _NO_SILENT)
        if len(self.offers) <= FEW or not 0.0 <= now - found_at < VALID_S:
            found = remarkably_silent(self.offers, now, is_stream=is_stream)
            self._silent[is_stream] = now, found
        return found

    def silences(self, now: float, *, is_stream: bool) -> Sequence[tuple[int, float]]:
        """Return the positions of those that are silent, and for how long, as log2 of milliseconds; as recent."""
        found_at, found = self._silences.get(is_stream, _NO_SILENCES)
        if len(self.offers) <= FEW or not 0.0 <= now - found_at < VALID_S:
            figures = self.figures()
            times = (
                (at, silent_s(self.offers[at][0], figures[at], now, is_stream=is_stream))
                for at in waiting(figures, is_stream=is_stream)
            )
            found = [(at, log2(silence * 1000)) for at, silence in times if silence > 0.0]
            self._silences[is_stream] = now, found
        return found


_NO_SILENT: Final[tuple[float, Mapping[str, float]]] = (-inf, {})
_NO_SILENCES: Final[tuple[float, Sequence[tuple[int, float]]]] = (-inf, ())

Decline = tuple[float, float]
"""Up to how many requests the load points of a backend fall evenly, and by how many points in all."""


def decline(backend: Backend, slots: float | None) -> Decline:
    """Return how the load points of *backend* fall: to 0 at its limit, or first to ``BUSY_POINTS`` at its slots.

    :param slots: how many requests it works on at once; None if that is not known.
    """
    limit = backend.max_in_flight
    if slots is None or slots >= limit:
        return limit, 100.0
    return slots, 100.0 - BUSY_POINTS


class RememberedCandidates:
    """The last candidates for each model, those of each number apart: policies and retries leave out some."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int], Candidates] = {}

    def of(self, offers: Sequence[Offer], model: str) -> Candidates:
        """Return *offers* as candidates, those of the last ranking for *model* if they are the same."""
        key = model, len(offers)
        known = self._known.get(key)
        # Unless the fleet has changed, each offer is the same object, so that this compares a hundred of them in 1 us.
        if known is not None and (known.offers == offers or _are_alike(known.offers, offers)):
            known.offers = offers
            return known
        if len(self._known) >= MAX_REMEMBERED:
            self._known.clear()
        found = self._known[key] = Candidates(offers)
        return found


def _are_alike(before: Sequence[Offer], offers: Sequence[Offer]) -> bool:
    """Whether the same candidates are described as before; see :meth:`Backend.is_like`."""
    for (backend, model), (now, model_now) in zip(before, offers, strict=True):
        if backend is not now and not backend.is_like(now):
            return False
        if model != model_now:
            return False
    return True


def waiting(figures: Sequence[ModelLoad], *, is_stream: bool) -> list[int]:
    """Return the positions of those with requests that have received no content yet."""
    requests = list(map(_FIRST_TOKENS if is_stream else _WHOLE, figures))
    return [at for at, unanswered in enumerate(requests) if unanswered] if any(requests) else []


def measured(figures: Sequence[ModelLoad], *, is_stream: bool) -> list[dict[int, Mean]]:
    """Return the mean latencies of each, by the size class of requests."""
    return list(map(_FIRST_TOKEN_MEANS if is_stream else _WHOLE_MEANS, figures))


def certain_slots(backend: Backend, model: str) -> float | None:
    """Return how many requests *backend* works on at once, as far as that is certain."""
    most = None if (facts := backend.models.get(model)) is None else facts.max_in_flight
    return backend.slots if most is None else min(most, backend.slots or most)
