"""Keeps the allotments of one process as the broker orders, and asks for slots when requests wait for them."""

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from nexus.domain.backend_load import BackendLoad
from nexus.domain.shared_load import HELD, Allotment
from nexus.fleet.clock import Later
from nexus.fleet.sharing.slot_broker import NO_EPOCH, NOTHING_WAITS, Key, SlotOrder, SlotReport

LINGER_S: Final = 0.02
"""How long a slot that was granted stays although no request can use it yet: a request may need a slot of the model and
one of the backend, and the other one may be on its way."""
MAX_LINGERS: Final = 50
"""How often a slot of a model stays for so long while a request waits for the slot of the backend."""
NORMAL: Final = 1
"""The rank of most requests."""
REFRESH_S: Final = 0.05
"""How often a process that asks for slots tells how many requests still wait."""


class Waiting(msgspec.Struct, frozen=True):
    """The requests that wait for one backend in this process."""

    requests: int = 0
    clients: tuple[int, ...] = NOTHING_WAITS
    """How many clients they belong to, of each priority."""


class SlotKeeper:
    """The broker's counterpart in each process."""

    def __init__(
        self,
        *,
        send: Callable[[Sequence[SlotReport]], None],
        later: Later,
    ) -> None:
        """:param send: sends reports to the broker, in order.
        :param later: as :func:`nexus.fleet.clock.call_later`; 0 seconds: after the current step of the event loop.
        """
        self._waiting: Callable[[str], Waiting] = lambda _: Waiting()
        self._offer: Callable[[str], None] = lambda _: None
        self._send = send
        self._later = later
        self._parts: dict[Key, Allotment] = {}
        self._seen: dict[Key, tuple[int, int]] = {}
        """The present division, and all that was granted in it."""
        self._asking: dict[Key, SlotReport | None] = {}
        """The limits of which requests wait for a slot, with what the broker knows; None: it does not yet."""
        self._lingering: dict[Key, int] = {}
        """The limits of which a free slot stays for a while, and how many times more."""
        self._untold: dict[Key, None] = {}
        self._is_refreshing = False

    def serve_queue(self, waiting: Callable[[str], Waiting], offer: Callable[[str], None]) -> None:
        """Let requests that wait in this process get slots.

        :param waiting: returns what waits for the backend of that name.
        :param offer: offers free slots of the backend of that name to the requests that wait.
        """
        self._waiting, self._offer = waiting, offer

    def offer(self, name: str) -> None:
        """Offer what may be free at the backend of that name to the requests that wait."""
        self._offer(name)

    def divide(self, name: str, load: BackendLoad, models: Sequence[str]) -> None:
        """Keep allotments for the backend of that name.

        :param models: those that have a limit of their own, see :func:`~nexus.fleet.sharing.division.parts_of`.
        """
        wanted = {"", *models}
        for model in load.allotments.keys() - wanted:
            load.divide(model, None)
            self._forget((name, model))
        for model in wanted:
            part = load.allotments.get(model)
            if part is None:
                figures = load.models.get(model.removeprefix(HELD))
                used = 0 if figures is None else figures.in_flight
                part = self._allotment((name, model), load.in_flight if not model else used)
                load.divide(model, part)
            self._parts[name, model] = part

    def leave(self, name: str) -> None:
        """Forget the backend of that name, which has left the fleet."""
        for key in [key for key in self._parts if key[0] == name]:
            self._forget(key)

    def order(self, orders: Sequence[SlotOrder]) -> None:
        """Apply what the broker orders."""
        for order in orders:
            if (part := self._parts.get(order.key)) is not None:
                self._apply(order, part)
            elif order.granted:
                # It comes too late, or this process cannot use the backend.
                self._send([SlotReport(order.key, order.epoch, order.granted, order.granted)])

    def _allotment(self, key: Key, used: int) -> Allotment:
        return Allotment(
            model=key[1],
            used=used,
            on_short=lambda _: self._ask(key),
            on_returned=lambda _: self._tell_soon(key),
        )

    def _ask(self, key: Key) -> None:
        # A request may still try a backend that has just left the fleet.
        if key not in self._asking and key in self._parts:
            self._asking[key] = None
            self._tell_soon(key)

    def _forget(self, key: Key) -> None:
        part = self._parts.pop(key)
        self._asking.pop(key, None)
        self._seen.pop(key, None)
        # The broker has forgotten them, too.
        part.size = part.returned = 0

    def _apply(self, order: SlotOrder, part: Allotment) -> None:
        key = order.key
        epoch, seen = self._seen.get(key, (order.epoch, 0))
        if epoch != order.epoch:
            part.size = part.returned = seen = 0
        part.size += order.granted
        self._seen[key] = order.epoch, seen + order.granted
        part.is_contended = order.is_contended
        if order.granted:
            self._offer(key[0])
            self._tell_soon(key)
        if not part.has_room:
            return
        if order.granted and key in self._asking:
            if key not in self._lingering:
                self._linger(key, MAX_LINGERS if _is_of_model(key) else 1)
        elif part.is_contended and key not in self._lingering:
            part.give_back_idle()

    def _linger(self, key: Key, times: int) -> None:
        """Keep what is free of *key*, at most so many times :data:`LINGER_S`."""
        self._lingering[key] = times
        self._later(LINGER_S, lambda: self._end_linger(key))

    def _end_linger(self, key: Key) -> None:
        times = self._lingering.pop(key, 0) - 1
        part = self._parts.get(key)
        if part is None or not part.has_room:
            return
        if times > 0 and self._asking.keys() >= {key, (key[0], "")}:
            # A request that can use the slot of its model waits for one of the backend.
            self._linger(key, times)
            return
        # What waits there needs something else than this slot, and asks again when it has got that.
        if self._asking.pop(key, None) is not None:
            self._untold[key] = None
        if part.is_contended:
            part.give_back_idle()
        self._tell()

    def _tell_soon(self, key: Key) -> None:
        if not self._untold:
            self._later(0.0, self._tell)
        self._untold[key] = None

    def _tell(self) -> None:
        """Send what has changed to the broker."""
        keys, self._untold = self._untold, {}
        reports = [report for key in keys if (report := self._report(key)) is not None]
        if reports:
            self._send(reports)
        if self._asking and not self._is_refreshing:
            self._is_refreshing = True
            self._later(REFRESH_S, self._refresh)

    def _report(self, key: Key) -> SlotReport | None:
        part = self._parts.get(key)
        if part is None:
            return None
        returned, part.returned = part.returned, 0
        waiting = self._all_waiting(key, part) if key in self._asking else Waiting()
        epoch, seen = self._seen.get(key, (NO_EPOCH, 0))
        report = SlotReport(key, epoch, returned, seen, waiting.requests, waiting.clients)
        if waiting.requests:
            self._asking[key] = report
        else:
            self._asking.pop(key, None)
        return report

    def _all_waiting(self, key: Key, part: Allotment) -> Waiting:
        """Return what waits in the queue, and what only asks for a moment."""
        found = self._waiting(key[0])
        if not part.drawing:
            return found
        clients = list(found.clients)
        clients[NORMAL] += 1
        return Waiting(found.requests + part.drawing, tuple(clients))

    def _refresh(self) -> None:
        self._is_refreshing = False
        for key, told in self._asking.items():
            waiting = self._all_waiting(key, self._parts[key])
            if told is None or (waiting.requests, waiting.clients) != (told.requests, told.waiting):
                self._untold[key] = None
        self._tell()


def _is_of_model(key: Key) -> bool:
    """Whether a request that got a slot of *key* then needs one of the backend."""
    return bool(key[1]) and not key[1].startswith(HELD)
