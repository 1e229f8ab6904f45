"""Which models are in the memory of a backend, as it reports or as its answers show, and the loads under way.

What is in memory is a fact, and so is a load that a request of this Nexus has caused. That two models do not fit
together is one, too: the server reports or the operator sets how many do, or one was seen to leave when the other came.
"""

from collections.abc import Iterable
from enum import StrEnum
from itertools import islice
from typing import TYPE_CHECKING, Final

import msgspec

from nexus.domain.model_load import MAX_TRACKED_MODELS, ModelLoad

if TYPE_CHECKING:
    from nexus.domain.backend import Backend

KEPT_S: Final = 240.0
"""How long a model stays in memory after an answer, where the server does not report it: Ollama keeps one for five
minutes, and LM Studio for an hour."""
REPORT_GOOD_S: Final = 30.0
"""How long a report is believed after the next one should have arrived."""
RECENTLY_USED_S: Final = 30.0
"""A model that leaves the memory so soon after it was used was evicted, and has not expired."""
WANTED_FOR_S: Final = 20.0
"""A request that was held back tries again sooner; without a try for so long, none is held back any more."""
MIN_LOAD_S: Final = 0.1
"""A load that seems to have taken less took this long."""
USUAL_LOAD_S: Final = 10.0
"""Taken for the time that a load takes where none was measured."""
MAX_GAP_S: Final = 2.0
"""For how long after an answer a model is taken for in use at most; loading it again would take longer."""
GAP_LOADS: Final = 0.25
"""The same as a part of the time that loading it takes."""
MAX_APART: Final = 256
"""Pairs of models that are remembered as not fitting together."""


class Presence(StrEnum):
    """Whether a model is in the memory of a backend."""

    IN_MEMORY = "in memory"
    LOADING = "loading"
    ABSENT = "not in memory"
    UNKNOWN = "unknown"


class Load(msgspec.Struct, eq=False):
    """One load of a model, from the request that caused it to the first content."""

    model: str
    since: float
    """Monotonic seconds."""
    waits_for: str | None = None
    """The model in use that has to leave first; requests for it are held back meanwhile."""
    is_certain: bool = True
    """Whether the model was not in memory; False: that was not known until its first content arrives."""
    requests: int = 0
    """Those that wait for it."""
    took_s: float | None = None
    """How long it took; None while it is under way."""


class Wanted(msgspec.Struct, eq=False):
    """A model whose requests are held back."""

    since: float
    """Monotonic seconds: since when the oldest of them waits."""
    asked_at: float
    """When one was last held back."""


class ModelMemory:
    """What is known about the memory of one backend; it is changed by the core alone."""

    __slots__ = ("_apart", "_in_memory", "held_back_total", "loaded_at", "loads_total", "under_way", "wanted")

    def __init__(self) -> None:
        self.under_way: dict[str, Load] = {}
        """The loads that requests of this Nexus have caused, by model."""
        self.wanted: dict[str, Wanted] = {}
        """The models whose requests are held back."""
        self.loaded_at = 0.0
        """Monotonic seconds: when the last of these loads was over."""
        self.loads_total = 0
        """Loads that requests of this Nexus have caused."""
        self.held_back_total = 0
        """How often requests for a model began to be held back."""
        self._apart: dict[frozenset[str], None] = {}
        self._in_memory: frozenset[str] = frozenset()
        """The models in memory as last reported."""

    def forget(self) -> None:
        """Drop what is known: the server has restarted, or is another one. Loads under way end with their requests."""
        self._in_memory = frozenset()
        self._apart.clear()

    @property
    def knows_pairs(self) -> bool:
        """Whether any two models are known not to fit together."""
        return bool(self._apart)

    def are_apart(self, model: str, other: str) -> bool:
        """Whether one of the two was seen to leave the memory when the other came."""
        return frozenset((model, other)) in self._apart

    def see(self, loaded: frozenset[str], loading: frozenset[str], recently_used: Iterable[str]) -> None:
        """Compare a new report of the models in memory with the last one.

        :param loading: the models that the server reports to be loading.
        :param recently_used: the models that were used so lately that only an eviction removes them.
        """
        came = (loaded - self._in_memory) | loading | self.under_way.keys()
        left = (self._in_memory - loaded).intersection(recently_used)
        if self._in_memory and len(loaded) <= len(self._in_memory):
            for model in came - left:
                for other in left:
                    if len(self._apart) < MAX_APART:
                        self._apart[frozenset((model, other))] = None
        if self._apart and len(loaded) > 1:
            for pair in [pair for pair in self._apart if pair <= loaded]:
                del self._apart[pair]
        self._in_memory = loaded

    def hold_back(self, model: str, now: float) -> None:
        """Record that a request for *model* is held back."""
        wanted = self.wanted.get(model)
        if wanted is not None and now - wanted.asked_at < WANTED_FOR_S:
            wanted.asked_at = now
            return
        self.held_back_total += 1
        if wanted is not None or len(self.wanted) < MAX_TRACKED_MODELS:
            self.wanted[model] = Wanted(now, now)

    def waited_s(self, model: str, now: float) -> float:
        """Return for how long requests for *model* have been held back; 0 when none is."""
        wanted = self.wanted.get(model)
        return now - wanted.since if wanted is not None and now - wanted.asked_at < WANTED_FOR_S else 0.0

    def begin(self, model: str, now: float, waits_for: str | None = None, *, is_certain: bool = True) -> Load:
        """Record that one more request waits for the load of *model*, which begins with the first one."""
        load = self.under_way.get(model)
        if load is None:
            self.loads_total += is_certain
            load = self.under_way[model] = Load(model, now, waits_for, is_certain)
        load.requests += 1
        return load

    def give_up(self, load: Load) -> None:
        """Record that a request has ended that waited for *load*; the load is over when none is left."""
        load.requests -= 1
        if not load.requests and self.under_way.get(load.model) is load:
            del self.under_way[load.model]

    def finish(self, load: Load, now: float) -> None:
        """Record that the model of *load* is in memory: its first content has arrived."""
        if load.took_s is None:
            load.took_s, self.loaded_at = now - load.since, now
            if self.under_way.get(load.model) is load:
                del self.under_way[load.model]


def presence(backend: "Backend", model: str, now: float) -> Presence:
    """Return whether *model*, by the backend's own name, is in memory there."""
    load = backend.load
    told, figures = load.told, load.models.get(model)
    if (under_way := load.memory.under_way.get(model)) is not None:
        return Presence.LOADING if under_way.is_certain else Presence.UNKNOWN
    shown_at = 0.0
    if figures is not None:
        if figures.flowing:
            return Presence.IN_MEMORY
        shown_at = figures.progressed_at
    if told is not None and told.loaded is not None and now < told.due_at + REPORT_GOOD_S and told.at >= shown_at:
        if model in told.loading:
            return Presence.LOADING
        if model not in told.loaded:
            # Names of which the backend lists none are not its names for models.
            is_readable = not told.loaded or not backend.models.keys().isdisjoint(told.loaded)
            return Presence.ABSENT if is_readable else Presence.UNKNOWN
        has_left = load.memory.loaded_at > told.at and _has_left(backend, told.loaded, told.at, now)
        return Presence.ABSENT if has_left or gave_way(backend, model, now) else Presence.IN_MEMORY
    if _has_left(backend, frozenset({model}), shown_at, now) or gave_way(backend, model, now):
        return Presence.ABSENT
    return Presence.IN_MEMORY if shown_at and now - shown_at < KEPT_S else Presence.UNKNOWN


def _has_left(backend: "Backend", before: frozenset[str], since: float, now: float) -> bool:
    """Whether the models *before*, which were in memory at *since*, have all left for others that have answered."""
    limit = max_loaded(backend)
    if limit is None:
        return False
    came = 0
    for name, figures in backend.load.models.items():
        if name not in before and (figures.flowing or max(since, now - KEPT_S) < figures.progressed_at):
            came += 1
    return came >= limit


def gave_way(backend: "Backend", model: str, now: float) -> bool:
    """Whether one that does not fit beside *model* has answered since *model* was last shown to be in memory.

    Only while the server reports what is in memory, which would show that both do fit; the report itself is no case.
    """
    memory, told, figures = backend.load.memory, backend.load.told, backend.load.models.get(model)
    if not memory.knows_pairs or max_loaded(backend) is not None:
        return False
    if told is None or told.loaded is None or now >= told.due_at + REPORT_GOOD_S:
        return False
    shown_at = 0.0 if figures is None else figures.progressed_at
    if told.at >= shown_at:
        if model not in told.loaded:
            return False
        shown_at = told.at
    # A stream that began before and still flows shows that both are in memory.
    return any(
        max(shown_at, 0.0 if other.flowing else now - KEPT_S) < other.progressed_at and memory.are_apart(name, model)
        for name, other in backend.load.models.items()
    )


def next_in_place_of(backend: "Backend", model: str, now: float) -> tuple[str, float] | None:
    """Return a model whose requests wait at *backend* until *model*, which is in memory, has left for it.

    They were sent while that one was in memory. The second value is since when the oldest of them waits, in monotonic
    seconds. None: there is no such model.
    """
    memory, is_alone = backend.load.memory, max_loaded(backend) == 1
    if not memory.knows_pairs and not is_alone:
        return None
    for name, figures in backend.load.models.items():
        oldest = [since for pace in (figures.first_token, figures.whole) for since in islice(pace.waiting.values(), 1)]
        is_apart = name != model and (is_alone or memory.are_apart(name, model))
        if oldest and is_apart and presence(backend, name, now) is Presence.ABSENT:
            return name, min(oldest)
    return None


def residents(backend: "Backend", now: float) -> list[str]:
    """Return the models that are known to be in memory, by the backend's own names."""
    told, since = backend.load.told, now - KEPT_S
    known = {name for name, used in backend.load.models.items() if used.flowing or used.progressed_at > since}
    if told is not None and told.loaded is not None:
        # Some servers report further names of an instance.
        known |= told.loaded & backend.models.keys()
    return [model for model in sorted(known) if presence(backend, model, now) is Presence.IN_MEMORY]


def max_loaded(backend: "Backend") -> int | None:
    """Return how many models *backend* keeps in memory at once: configured, or as it reports; None: not known."""
    told = backend.load.told
    return backend.max_loaded_models or (None if told is None else told.max_loaded)


def is_used(figures: ModelLoad, now: float) -> bool:
    """Whether the model is in use: a client that asks again right after each answer leaves gaps, which do not count."""
    return figures.in_flight > 0 or now - figures.used_at < min(MAX_GAP_S, (figures.load_s or USUAL_LOAD_S) * GAP_LOADS)


def crowding(backend: "Backend", model: str, now: float) -> list[str]:
    """Return the models in use, or loading, of which one has to leave before *model* can be loaded.

    Empty when there is room, when an idle model can leave, or when it is not known that there is no room.
    """
    load, memory = backend.load, backend.load.memory
    there = [name for name in residents(backend, now) if name != model]
    used = [
        name
        for name in there
        if load.elsewhere.models.get(name) or ((figures := load.models.get(name)) is not None and is_used(figures, now))
    ]
    used += [name for name in memory.under_way if name != model and name not in used]
    limit = max_loaded(backend)
    if limit is not None:
        return used if len(used) >= limit else []
    if any(name not in used for name in there):
        return []
    return [name for name in used if memory.are_apart(name, model)]


def end_load(backend: "Backend", load: Load, now: float) -> None:
    """Record that the first content of a model that was being loaded has arrived, and how long that took.

    A load that had to wait for other requests to end measures nothing.
    """
    figures = backend.load.model(load.model)
    figures.progressed_at = now
    backend.load.memory.finish(load, now)
    if load.is_certain and load.waits_for is None and load.took_s is not None:
        usual_s = (figures.first_token.mean_ms() or 0) / 1000
        figures.observe_load(max(MIN_LOAD_S, load.took_s - usual_s), now)
