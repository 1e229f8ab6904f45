"""What a process knows of the other processes that send requests to the same backend."""

from collections.abc import Callable, Mapping
from typing import Final

import msgspec


class Elsewhere(msgspec.Struct, frozen=True, array_like=True):
    """The requests of this Nexus that other workers and replicas have in flight at one backend."""

    in_flight: int = 0
    prompt_tokens: int = 0
    """As estimated, of those that have received no content yet."""
    answer_tokens: int = 0
    """The expected answer tokens of all of them."""
    models: Mapping[str, int] = {}
    """Those of each model, by the backend's own name for it."""
    alive_at: Mapping[str, float] = {}
    """For some of these models, the last time, in monotonic seconds, that any part of an answer arrived."""
    probing: frozenset[str] = frozenset()
    """The models whose half-open breaker is tried there; empty: that of the whole backend."""

    def __add__(self, other: "Elsewhere") -> "Elsewhere":
        models, alive_at = dict(self.models), dict(self.alive_at)
        for name, count in other.models.items():
            models[name] = models.get(name, 0) + count
        for name, at in other.alive_at.items():
            alive_at[name] = max(at, alive_at.get(name, at))
        return Elsewhere(
            self.in_flight + other.in_flight,
            self.prompt_tokens + other.prompt_tokens,
            self.answer_tokens + other.answer_tokens,
            models,
            alive_at,
            self.probing | other.probing,
        )


NOWHERE_ELSE: Final = Elsewhere()

HELD: Final = "\x1f"
"""Precedes the name of a model for the slots that its server reports: beyond these, requests had better wait, and those
that may not are sent all the same."""


def _ignore(_allotment: "Allotment") -> None:
    pass


class Allotment:
    """The slots of a limited backend, or of a limited model on it, that this process may use.

    The broker of all processes decides their number. While requests wait for them in other processes, each slot goes
    back to the broker as soon as it is free, so that those take turns with the requests that wait here.
    """

    __slots__ = ("drawing", "is_contended", "model", "on_returned", "on_short", "returned", "size", "used")

    def __init__(
        self,
        size: int = 0,
        *,
        model: str = "",
        used: int = 0,
        on_short: Callable[["Allotment"], None] = _ignore,
        on_returned: Callable[["Allotment"], None] = _ignore,
    ) -> None:
        """:param model: the backend's own name for the limited model; empty: they are slots of the whole backend.
        :param used: the requests that hold a slot already.
        :param on_short: called when a request found no free slot, although the limit itself may not be reached.
        :param on_returned: called when ``returned`` has grown.
        """
        self.size = size
        self.model = model
        self.used = used
        self.drawing = 0
        """Requests that may not wait in the queue, and give the broker a moment to find a slot."""
        self.is_contended = False
        self.returned = 0
        """Slots that go back to the broker and that it does not know of yet."""
        self.on_short = on_short
        self.on_returned = on_returned

    @property
    def has_room(self) -> bool:
        """Whether a slot is free."""
        return self.used < self.size

    def take(self) -> None:
        """Use one slot; the caller has checked that one is free, and releases it exactly once."""
        self.used += 1

    def release(self) -> None:
        """Free one slot, which goes back to the broker while others wait for it."""
        self.used -= 1
        if self.is_contended:
            self.give_back_idle()

    def give_back_idle(self) -> None:
        """Return all free slots to the broker."""
        idle = self.size - self.used
        if idle > 0:
            self.size -= idle
            self.returned += idle
            self.on_returned(self)


def parts_for(allotments: Mapping[str, Allotment], model: str) -> tuple[Allotment, ...]:
    """Return the parts of which a request for *model* needs a slot: first that of the model, then that of the backend.

    They are asked for in this order, everywhere: otherwise two processes could each wait for what the other one has.
    """
    whole, of_model = allotments.get(""), allotments.get(model) if model else None
    if of_model is None:
        return () if whole is None else (whole,)
    return (of_model,) if whole is None else (of_model, whole)


def first_short(parts: tuple[Allotment, ...]) -> Allotment | None:
    """Return the first of *parts* without a free slot, and let it know; None: all have one."""
    for part in parts:
        if part.used >= part.size:
            part.on_short(part)
            return part
    return None


def with_hold(allotments: Mapping[str, Allotment], parts: tuple[Allotment, ...], model: str) -> tuple[Allotment, ...]:
    """Return *parts*, and that of the slots that the server reports for *model*, if they are divided."""
    held = allotments.get(HELD + model)
    return parts if held is None else (*parts, held)


def ask_for_hold(allotments: Mapping[str, Allotment], model: str) -> None:
    """Let the slots that the server reports for *model*, if they are divided, know that one more would be used."""
    held = allotments.get(HELD + model)
    if held is not None and not held.has_room:
        held.on_short(held)
