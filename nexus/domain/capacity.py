"""How many requests a backend works on at once, and how that is known."""

from typing import Final, Literal

import msgspec

from nexus.domain.backend import Backend

CapacitySource = Literal["configured", "reported by the server", "learned", "usual for its kind", "none known"]

SPARE_PART: Final = 0.5
"""The part of its slots for which further requests are sent ahead, so that a freed slot is never idle."""
MIN_SPARE: Final = 2
RUNNING_SPARE_PART: Final = 0.25
"""The same for a server without a fixed number of slots. It may soon run more, if later requests are shorter."""
MIN_RUNNING_SPARE: Final = 8


class Capacity(msgspec.Struct, frozen=True):
    """The capacity of one backend for one model."""

    requests: float | None
    """How many requests it works on at once; None: unknown."""
    source: CapacitySource
    held_from: int | None = None
    """With so many requests in flight, further ones wait in the queue of Nexus rather than in that of the server. None:
    they are sent, up to ``max_in_flight``."""

    def in_words(self) -> str:
        """Return it in a few words."""
        if self.requests is None:
            return "how many it works on at once is not known"
        about = "about " if self.source == "learned" else ""
        return f"works on {about}{self.requests:.0f} at once ({self.source})"


def capacity_now(backend: Backend, now: float) -> tuple[str, Capacity]:
    """Return the model that has the most requests in flight there, or was used last, and the capacity for it.

    The model is empty if none was used.
    """
    models = backend.load.models
    model = max(models, key=lambda name: (models[name].in_flight, models[name].used_at), default="")
    return model, capacity_of(backend, model, now)


def held_from_reported(backend: Backend) -> int | None:
    """Return from how many requests for a model on others wait, by the slots that it reports; None: they do not."""
    slots = backend.slots
    if slots is None or not backend.slots_are_reported or slots >= backend.max_in_flight:
        return None
    return slots + max(MIN_SPARE, int(slots * SPARE_PART))


def capacity_of(backend: Backend, model: str, now: float) -> Capacity:
    """Return how many requests for *model*, by the backend's own name, it works on at once.

    What is configured or reported is certain, so that further requests may wait for a slot in the queue of Nexus, where
    clients take turns. What is learned or usual may be wrong: it only weighs when backends are compared.
    """
    facts, slots = backend.models.get(model), backend.slots
    if facts is not None and facts.max_in_flight is not None:
        limit = min(facts.max_in_flight, backend.max_in_flight)
        return Capacity(limit, "configured", limit)
    if slots is not None and (held_from := held_from_reported(backend)) is not None:
        return Capacity(slots, "reported by the server", held_from)
    if backend.is_limited:
        return Capacity(backend.max_in_flight, "configured")
    running = backend.load.running_at_most(now)
    if running is not None:
        is_fresh = backend.load.told is not None and bool(backend.load.told.waiting) and now <= backend.load.told.due_at
        held_from = running + max(MIN_RUNNING_SPARE, int(running * RUNNING_SPARE_PART)) if is_fresh else None
        return Capacity(running, "reported by the server", held_from)
    figures = backend.load.models.get(model)
    if figures is not None and figures.learned.limit is not None:
        return Capacity(figures.learned.limit, "learned")
    return Capacity(slots, "none known" if slots is None else "usual for its kind")
