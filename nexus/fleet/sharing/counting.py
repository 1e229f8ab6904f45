"""Tells the process that has the fleet how many requests this one has in flight at each backend."""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from nexus.domain.backend import Backend, Breaker
from nexus.domain.fleet import FleetSnapshot
from nexus.domain.shared_load import Elsewhere
from nexus.fleet.sharing.messages import SentCounts

COUNT_S: Final = 0.025
"""How often changed counts are sent."""
TRY_S: Final = 0.002
"""The same while a breaker is half open, so that hardly more than one process tries the backend."""
ALIVE_S: Final = 1.0
"""How much later the last sign of life of a model must be to be sent by itself."""

_Known = tuple[int, int, int, int, bool]


class RequestCounter:
    """Compares the loads of all backends with what was last sent of them."""

    def __init__(
        self,
        snapshot: Callable[[], FleetSnapshot],
        send: Callable[[Sequence[SentCounts]], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._snapshot = snapshot
        self._send = send
        self._clock = clock
        self._all_at = 0.0
        """When all backends are looked at again, and not only those with a half-open breaker."""
        self._known: dict[str, _Known] = {}
        self._alive_at: dict[str, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Count from now on."""
        self._tick()

    def stop(self) -> None:
        """Count no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _tick(self) -> None:
        now = self._clock()
        backends = self._snapshot().backends
        half_open = [row for row in backends if _is_half_open(row)]
        if now >= self._all_at:
            self._all_at = now + COUNT_S
            self._send_counts(backends)
            self._forget()
        elif half_open:
            self._send_counts(half_open)
        self._timer = asyncio.get_running_loop().call_later(TRY_S if half_open else COUNT_S, self._tick)

    def _send_counts(self, backends: Iterable[Backend]) -> None:
        counts = [found for row in backends if (found := self._count(row)) is not None]
        if counts:
            self._send(counts)

    def _forget(self) -> None:
        """Forget backends that have left the fleet."""
        by_id = self._snapshot().by_id
        if len(self._known) > len(by_id):
            self._known = {name: known for name, known in self._known.items() if name in by_id}
            self._alive_at = {name: at for name, at in self._alive_at.items() if name in by_id}

    def _count(self, row: Backend) -> SentCounts | None:
        """Return the counts of *row* if they differ from what was sent."""
        load = row.load
        probing = _probed(row) if row.is_troubled or load.probing else frozenset[str]()
        known = load.in_flight, load.prompt_tokens, load.answer_tokens, load.requests_total, bool(probing)
        before = self._known.get(row.id, (0, 0, 0, 0, False))
        alive_at = 0.0
        if load.in_flight:
            alive_at = max((figures.alive_at for figures in load.models.values()), default=0.0)
        if known == before and alive_at < self._alive_at.get(row.id, 0.0) + ALIVE_S:
            return None
        self._known[row.id], self._alive_at[row.id] = known, alive_at
        used = {name: figures for name, figures in load.models.items() if figures.in_flight}
        elsewhere = Elsewhere(
            load.in_flight,
            load.prompt_tokens,
            load.answer_tokens,
            {name: figures.in_flight for name, figures in used.items()},
            {name: figures.alive_at for name, figures in used.items() if figures.alive_at},
            probing,
        )
        return SentCounts(row.id, elsewhere, max(0, load.requests_total - before[3]))


def _is_half_open(row: Backend) -> bool:
    return row.is_troubled and Breaker.HALF_OPEN in {row.own_breaker, row.breaker, *row.model_breakers.values()}


def _probed(row: Backend) -> frozenset[str]:
    """Return the models whose half-open breaker a request is trying; empty: that of the whole backend."""
    found = {name for name, figures in row.load.models.items() if figures.probing}
    return frozenset(found | {""} if row.load.probing else found)
