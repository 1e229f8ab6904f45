"""The stage that prefers backends with the model in memory, and keeps requests from making one swap models by turns."""

from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any, Final

from nexus.domain.backend import Backend
from nexus.domain.outcome import AttemptOutcome, Ending
from nexus.domain.residency import (
    USUAL_LOAD_S,
    Load,
    Presence,
    crowding,
    gave_way,
    max_loaded,
    next_in_place_of,
    presence,
)
from nexus.domain.silence import Offer
from nexus.domain.statuses import FIRST_ERROR
from nexus.routing.intent import RoutingIntent
from nexus.routing.stage.api import Hold, Priority, Reconciler, Refusal

USUAL_ANSWER_S: Final = 3.0
"""Taken for the time that an answer takes where none was measured."""
EQUAL_S: Final = 1.0
"""Added to all expected times: a difference much below this hardly weighs."""
MIN_BOUND_S: Final = 30.0
"""For how long requests for a model are held back at least before a model in use has to leave for it."""
BOUND_LOADS: Final = 3.0
"""The same as a multiple of the time that the load takes: at most a quarter of the time is spent on loading."""
MAX_BOUND_S: Final = 180.0
"""The same at most: client libraries wait for ten minutes, and the load and the answer take their time, too."""
RETRY_S: Final = 5.0
"""How soon a request that is held back tries again, at the latest."""
MIN_RETRY_S: Final = 0.05
GAP_S: Final = 0.5
"""The same while the model in use has no request at the moment: then nothing else wakes the queue."""


class Residency(Reconciler):
    """Weighs candidates by the time until they can begin, and holds back requests that would swap models in use.

    Only kinds that load models on demand are judged. A backend whose memory is not known is left alone.
    """

    name = "residency"
    priority = Priority.LIFECYCLE

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock

    def reconcile(self, intent: RoutingIntent) -> None:
        survivors = intent.survivors
        if len(survivors) < 2:
            return
        for backend, _ in survivors.values():
            if backend.kind.loads_models:
                break
        else:
            return
        self._weigh(intent)

    def may_judge(self, backend: Backend, model: str) -> bool:
        del model
        return backend.kind.loads_models

    def may_hold(self, backend: Backend, model: str) -> bool:
        return backend.kind.loads_models and bool(model)

    def _weigh(self, intent: RoutingIntent) -> None:
        """Weigh by the expected times, unless all that are known have the model in memory."""
        now, offers = self._clock(), intent.offers()
        known: list[tuple[Backend, str, Presence, float]] = []
        needs_load = False
        for backend, model in offers:
            if not backend.kind.loads_models:
                continue
            where = presence(backend, model, now)
            if where is not Presence.UNKNOWN:
                needs_load = needs_load or where is not Presence.IN_MEMORY
                known.append((backend, model, where, begins_in_s(backend, model, where, offers, now)))
        if not needs_load or len(known) < 2:
            return
        soonest = min(time_s for *_, time_s in known)
        for backend, model, where, time_s in known:
            factor = (soonest + EQUAL_S) / (time_s + EQUAL_S)
            intent.weigh(backend, factor, stage=self.name, reason=_reason(backend, model, where, offers, now))

    def would_refuse(self, intent: RoutingIntent, backend: Backend) -> Refusal | None:
        if not backend.kind.loads_models or not intent.requirements.may_wait:
            return None
        now, model = self._clock(), intent.model_on(backend)
        return _refusal(backend, model, presence(backend, model, now), now)

    def reserve(self, intent: RoutingIntent, backend: Backend) -> Hold | Refusal | None:
        if not backend.kind.loads_models:
            return None
        now, model, memory = self._clock(), intent.model_on(backend), backend.load.memory
        if not model:
            return None
        where = presence(backend, model, now)
        refusal = _refusal(backend, model, where, now) if intent.requirements.may_wait else None
        if refusal is not None:
            memory.hold_back(model, now)
            return refusal
        load: Load | None = None
        if where is not Presence.IN_MEMORY and (where is not Presence.UNKNOWN or max_loaded(backend) is not None):
            crowd = crowding(backend, model, now)
            models = backend.load.models
            # The one with the fewest requests can leave first.
            first = min(crowd, key=lambda name: models[name].in_flight if name in models else 0, default=None)
            # A pair may have been learned wrongly, so that nothing has to be loaded.
            is_certain = where is not Presence.UNKNOWN and not gave_way(backend, model, now)
            load = memory.begin(model, now, first, is_certain=is_certain)
        memory.wanted.pop(model, None)
        return Residence(backend, model, load, now)

    def explain(self, intent: RoutingIntent) -> Mapping[str, Any]:
        now, offers = self._clock(), intent.offers()
        return {
            "backends": {
                backend.name: residency_facts(backend, model, now, offers)
                for backend, model in offers
                if backend.kind.loads_models
            }
        }

    def describe(self, intent: RoutingIntent) -> Mapping[str, str]:
        now, offers = self._clock(), intent.offers()
        return {
            backend.name: _reason(backend, model, presence(backend, model, now), offers, now)
            for backend, model in offers
            if backend.kind.loads_models
        }


class Residence(Hold):
    """The use of a model in memory by one request, given back exactly once."""

    __slots__ = ("_backend", "_began", "_load", "_model")

    def __init__(self, backend: Backend, model: str, load: Load | None, began: float) -> None:
        """:param load: the load that the request waits for; None if the model is in memory, as far as is known."""
        self._backend: Backend | None = backend
        self._model = model
        self._load = load
        self._began = began

    def settle(self, outcome: AttemptOutcome) -> None:
        backend, self._backend = self._backend, None
        if backend is None:
            return
        if self._load is not None:
            backend.load.memory.give_up(self._load)
        elif outcome.ending is Ending.FINISHED and (outcome.status or FIRST_ERROR) < FIRST_ERROR and outcome.model:
            backend.load.model(outcome.model).observe_answer(outcome.duration_s)


def expected_load_s(backend: Backend, model: str, offers: list[Offer]) -> tuple[float, str]:
    """Return how long *backend* is expected to load *model*, and how that is known.

    :param offers: the other backends that have the model, whose measurements count where there is none of this one.
    """
    figures = backend.load.models.get(model)
    if figures is not None and figures.load_s:
        return figures.load_s, "as measured"
    elsewhere = [
        found.load_s for other, name in offers if (found := other.load.models.get(name)) is not None and found.load_s
    ]
    if elsewhere:
        return sum(elsewhere) / len(elsewhere), "as measured at other backends"
    return USUAL_LOAD_S, "not measured yet"


def bound_s(load_s: float) -> float:
    """Return for how long requests are held back at most before they are sent all the same."""
    return min(MAX_BOUND_S, max(MIN_BOUND_S, BOUND_LOADS * load_s))


def begins_in_s(backend: Backend, model: str, where: Presence, offers: list[Offer], now: float) -> float:
    """Return the time until *backend* is expected to begin an answer, in seconds: the wait there, and the load."""
    load, figures = backend.load, backend.load.models.get(model)
    slots = backend.slots or backend.max_in_flight
    before = load.everywhere + load.other_requests(now) + 1 - slots
    answer_s = figures.answer_s if figures is not None and figures.answer_s else USUAL_ANSWER_S
    time_s = before / slots * answer_s if before > 0 else 0.0
    if where is Presence.IN_MEMORY:
        return time_s
    load_s, _ = expected_load_s(backend, model, offers)
    if (under_way := load.memory.under_way.get(model)) is not None:
        return time_s + max(0.0, under_way.since + load_s - now)
    for other in load.memory.under_way.values():
        time_s += max(0.0, other.since + expected_load_s(backend, other.model, [])[0] - now)
    if crowding(backend, model, now):
        time_s += bound_s(load_s) - min(bound_s(load_s), load.memory.waited_s(model, now))
    return time_s + load_s


def _refusal(backend: Backend, model: str, where: Presence, now: float) -> Refusal | None:
    """Return why a request for *model* has to wait; None when it is sent now."""
    memory, models = backend.load.memory, backend.load.models
    if not memory.under_way and not backend.load.elsewhere.models and len(models) <= (model in models):
        # It has not been asked for another model.
        return None
    if where is Presence.IN_MEMORY:
        leaves_for = next((load for load in memory.under_way.values() if load.waits_for == model), None)
        if leaves_for is not None:
            return _until_loaded(backend, model, leaves_for, now)
        return _until_swapped(backend, model, now)
    if where is Presence.LOADING or model in memory.under_way:
        return None
    # Where it is not known whether the model is in memory, all the room may be taken by others that are in use.
    crowd = crowding(backend, model, now)
    if not crowd:
        return None
    loading = next((memory.under_way[name] for name in crowd if name in memory.under_way), None)
    if loading is not None:
        return _until_loaded(backend, model, loading, now)
    left_s = bound_s(expected_load_s(backend, model, [])[0]) - memory.waited_s(model, now)
    if left_s <= MIN_RETRY_S:
        return None
    names = " and ".join(crowd)
    return Refusal(
        f"Loading {model} would evict {names}, which {'are' if len(crowd) > 1 else 'is'} in use: it waits for that,"
        f" at most {left_s:.0f} s more",
        is_saturation=True,
        is_preference=True,
        action="Wait, or raise max_loaded_models if there is room for both",
        retry_in_s=_retry_in_s(left_s, is_in_gap=not any(models[name].in_flight for name in crowd if name in models)),
    )


def _until_swapped(backend: Backend, model: str, now: float) -> Refusal | None:
    """Return the refusal while requests wait at the backend until *model* has left for theirs; None otherwise."""
    found = next_in_place_of(backend, model, now)
    if found is None:
        return None
    other, since = found
    left_s = since + bound_s(expected_load_s(backend, other, [])[0]) - now
    if left_s <= MIN_RETRY_S:
        return None
    return Refusal(
        f"Requests for {other} wait there, which does not fit beside {model}",
        is_saturation=True,
        is_preference=True,
        action="Wait until these are served, or raise max_loaded_models if there is room for both",
        retry_in_s=_retry_in_s(left_s),
    )


def _until_loaded(backend: Backend, model: str, load: Load, now: float) -> Refusal | None:
    """Return the refusal while another load goes on; None when that takes too long, or it has waited too long."""
    load_s = expected_load_s(backend, load.model, [])[0]
    own_s = bound_s(expected_load_s(backend, model, [])[0])
    left_s = min(
        load.since + bound_s(load_s) - now,
        own_s + bound_s(load_s) - backend.load.memory.waited_s(model, now),
    )
    if left_s <= MIN_RETRY_S:
        return None
    return Refusal(
        f"Backend is loading {load.model}, and {model} does not fit beside it",
        is_saturation=True,
        is_preference=True,
        action="Wait until it is loaded",
        retry_in_s=_retry_in_s(left_s),
    )


def _retry_in_s(left_s: float, *, is_in_gap: bool = False) -> float:
    return max(MIN_RETRY_S, min(GAP_S if is_in_gap else RETRY_S, left_s))


def residency_facts(backend: Backend, model: str, now: float, offers: list[Offer]) -> Mapping[str, Any]:
    """Return what is known of the model in the memory of *backend*, for people."""
    figures, memory = backend.load.models.get(model), backend.load.memory
    where = presence(backend, model, now)
    refusal = _refusal(backend, model, where, now)
    load = memory.under_way.get(model)
    return {
        "model": model,
        "presence": where.value,
        "load_s": round(figures.load_s, 1) if figures is not None and figures.load_s else None,
        "loading_s": None if load is None else round(now - load.since, 1),
        "held_back": None if refusal is None else refusal.reason,
        "in_words": _reason(backend, model, where, offers, now),
    }


def _reason(backend: Backend, model: str, where: Presence, offers: list[Offer], now: float) -> str:
    if where is Presence.IN_MEMORY:
        return f"{model} is in memory"
    if where is Presence.UNKNOWN:
        return f"whether {model} is in memory is not known"
    load_s, how = expected_load_s(backend, model, offers)
    if where is Presence.LOADING:
        load = backend.load.memory.under_way.get(model)
        so_far = "" if load is None else f", for {now - load.since:.0f} s so far"
        return f"{model} is being loaded{so_far}: about {load_s:.0f} s, {how}"
    return f"must load {model} first: about {load_s:.0f} s, {how}"
