"""Says why a request waits for a slot of its model, although the backend is not at its limit."""

from typing import Final

from nexus.domain.backend import Backend
from nexus.domain.capacity import capacity_of
from nexus.domain.model_load import ModelLoad
from nexus.domain.shared_load import HELD
from nexus.routing.core_stages.known_load import requests
from nexus.routing.intent import RoutingIntent
from nexus.routing.stage.api import Refusal

MIN_HELD: Final = 3
"""With fewer requests in flight for a model, none is held back."""
RETRY_S: Final = 1.0
"""How soon requests that are held back try again if no slot becomes free; the server may report another capacity."""

AT_ITS_LIMIT_FOR_MODEL: Final = Refusal(
    "Backend is at its limit for the model",
    is_saturation=True,
    action="Try again later, or raise max_in_flight of the model",
)


def refusal_for_model(
    intent: RoutingIntent, backend: Backend, model: str, figures: ModelLoad | None, now: float
) -> Refusal | None:
    """Return why a request for *model* has to wait, or had better wait, although the backend is not at its limit.

    :param figures: those of the model; None if it was not asked yet.
    """
    if figures is None:
        return None
    facts = backend.models.get(model)
    in_flight = figures.in_flight
    if facts is not None and facts.max_in_flight is not None and in_flight >= facts.max_in_flight:
        return AT_ITS_LIMIT_FOR_MODEL
    load = backend.load
    held = load.allotments.get(HELD + model) if load.allotments else None
    if held is not None:
        # Processes divide these slots, so the broker knows better than the counts of a moment ago.
        if held.has_room or not intent.requirements.may_wait:
            return None
        in_flight += load.elsewhere.models.get(model, 0)
    else:
        if load.elsewhere.in_flight and model not in load.allotments:
            in_flight += load.elsewhere.models.get(model, 0)
        if in_flight < MIN_HELD or not intent.requirements.may_wait:
            return None
        if not backend.slots_are_reported and load.told is None:
            return None
    capacity = capacity_of(backend, model, now)
    if held is None and (capacity.held_from is None or in_flight < capacity.held_from):
        return None
    return Refusal(
        f"Backend {capacity.in_words()}, and has {requests(in_flight)}",
        is_saturation=True,
        is_preference=True,
        action="Wait: the next slot that becomes free is given to the next client in turn",
        retry_in_s=RETRY_S,
    )
