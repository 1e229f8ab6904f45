"""Leases this replica's part of each limit from the store that it shares with others, and passes hints to them."""

import asyncio
import time
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit
from uuid import getnode, uuid4

import structlog

from nexus import tasks
from nexus.config.rules.checks import is_loopback
from nexus.domain.shared_load import HELD, NOWHERE_ELSE, Elsewhere
from nexus.errors import StoreError
from nexus.fleet.clock import wait_for_event
from nexus.fleet.sharing.slot_broker import NOTHING_WAITS, OUTSIDE, Key, SlotBroker, SlotOrder, SlotReport
from nexus.store.shared import LEASE_TTL_S, RENEW_EVERY_S, SlotClaim, SlotLease
from nexus.store.watched import WatchedStore

log = structlog.get_logger("nexus.fleet")

MIN_PAUSE_S: Final = 0.02
"""The shortest time between two renewals."""
HUNGRY_PAUSE_S: Final = 0.25
"""The longest, while requests wait here, because a hint of free slots may be lost, or while the store fails."""
BUSY_PAUSE_S: Final = 1.0
"""The longest while requests are in flight here, which the others count."""
SLOTS_HINT: Final = "slots"
GRACE_S: Final = 1.5
"""How long the store may fail before each replica uses its part: those that have requests have noticed it by then."""
Own = Callable[[Key], Elsewhere]


class Replicas:
    """What this replica may use of the limits that all share.

    While the store fails, each uses its part: the limit divided by the number of replicas that there were, but at least
    one slot. One that has leased more sends no further requests until enough of those that it has sent are finished;
    one that has leased less does not wait for that, so that no request is delayed by the store. A backend at a loopback
    address is shared by the replicas that have that address in common: those of one machine or container.
    """

    def __init__(  # noqa: PLR0913 - what it stands between
        self,
        store: WatchedStore,
        broker: SlotBroker,
        *,
        address: Callable[[str], str | None],
        own: Own,
        on_elsewhere: Callable[[str, Elsewhere], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """:param store: one that replicas share.
        :param address: returns the URL of the backend of that name; None: it has left.
        :param own: returns the requests that this replica has in flight.
        :param on_elsewhere: called with the name of a backend and the requests of all other replicas there.
        """
        self.id = uuid4().hex
        self.count = 1
        """The replicas that there were at the last renewal, this one included."""
        self.failure: str | None = None
        """Why the last renewal failed; None when it succeeded."""
        self._store = store
        self._broker = broker
        self._address = address
        self._own = own
        self._on_elsewhere = on_elsewhere
        self._clock = clock
        self._leases: dict[Key, SlotLease] = {}
        self._claimed: dict[Key, tuple[int, int, int]] = {}
        """What this replica had when it last claimed, in which division, and what others had been granted."""
        self._granted: dict[Key, tuple[int, int]] = {}
        """The present division, and all that the broker has granted to the others in it."""
        self._is_due = asyncio.Event()
        self._failed_at: float | None = None
        """Since when the store fails; None: it works."""
        self._running: asyncio.Task[None] | None = None
        self._hint: asyncio.Task[None] | None = None
        store.on_hint(SLOTS_HINT, lambda _: self._is_due.set())

    async def start(self) -> None:
        """Claim slots, and renew the claims from now on."""
        await self.renew()
        self._running = tasks.keep_running(self._keep_renewing, name="replicas")

    async def stop(self) -> None:
        """Give all slots back."""
        if self._running is not None:
            await tasks.stop(self._running)
        try:
            if self._store.shared is not None:
                await self._store.shared.leave(self.id)
        except StoreError as exc:
            log.warning("replica_not_left", reason=str(exc))

    def order(self, order: SlotOrder) -> None:
        """Take what the broker orders the others: it is to be leased no more, or requests wait here for more."""
        epoch, before = self._granted.get(order.key, (order.epoch, 0))
        self._granted[order.key] = order.epoch, order.granted + (before if epoch == order.epoch else 0)
        self._is_due.set()

    async def renew(self) -> None:
        """Claim what this replica has and needs, and let the broker divide what it gets."""
        names = self._shared()
        keys = {name: key for key, name in names.items()}
        try:
            renewal = await self._store.renew(
                self.id, {name: self._claim(key) for key, name in names.items()}, ttl_s=LEASE_TTL_S
            )
        except StoreError as exc:
            self._fail(str(exc))
            return
        if self.failure is not None:
            log.info("replicas_in_touch", replicas=renewal.replicas)
        self.failure = self._failed_at = None
        if renewal.replicas != self.count:
            log.info("replicas_changed", replicas=renewal.replicas)
        self.count = renewal.replicas
        self._apply({keys[name]: lease for name, lease in renewal.leases.items()})

    def _claim(self, key: Key) -> SlotClaim:
        limit, slots = self._broker.limit_of(key), self._broker.own_slots(key)
        unmet, own, before = self._broker.unmet(key), self._own(key), self._leases.get(key)
        wish = 0
        if before is None or not before.unmet_elsewhere:
            # Its part of what no replica has, to be there when requests come.
            wish = (limit if before is None else before.free) // self.count
        self._claimed[key] = slots, *self._granted.get(key, (self._broker.epoch_of(key), 0))
        return SlotClaim(
            limit=limit,
            in_use=own.in_flight if self._broker.is_exceeded(key) else min(own.in_flight, slots),
            wanted=slots + max(unmet, wish),
            clients=self._broker.waiting(key),
            prompt_tokens=own.prompt_tokens,
            answer_tokens=own.answer_tokens,
        )

    def _apply(self, leases: Mapping[Key, SlotLease]) -> None:
        self._leases = dict(leases)
        for key, lease in leases.items():
            slots, epoch, seen = self._claimed[key]
            if key not in self._broker.keys or epoch != self._broker.epoch_of(key):
                # It has left the fleet meanwhile.
                continue
            # Meanwhile, some may have been granted to the others, which the next claim leaves out.
            self._broker.lease(key, self._broker.own_slots(key) + lease.slots - slots)
            wanted = max(0, lease.unmet_elsewhere - lease.free)
            waiting = (0, max(1, lease.clients_elsewhere), 0) if wanted else NOTHING_WAITS
            self._broker.report(OUTSIDE, SlotReport(key, epoch, 0, seen, wanted, waiting))
        self._tell_elsewhere()
        gives = any(lease.unmet_elsewhere and lease.free for lease in leases.values())
        if gives or any(self._broker.unmet(key) for key in self._shared()):
            self._send_hint()

    def _tell_elsewhere(self) -> None:
        by_name: dict[str, Elsewhere] = {}
        for (name, model), lease in self._leases.items():
            found = (
                Elsewhere(models={model.removeprefix(HELD): lease.in_use_elsewhere})
                if model
                else Elsewhere(lease.in_use_elsewhere, lease.prompt_tokens_elsewhere, lease.answer_tokens_elsewhere)
            )
            by_name[name] = by_name.get(name, NOWHERE_ELSE) + found
        for name, elsewhere in by_name.items():
            self._on_elsewhere(name, elsewhere)

    def _fail(self, reason: str) -> None:
        if self.failure is None:
            log.warning("replicas_out_of_touch", reason=reason, replicas=self.count)
        self.failure = reason
        now = self._clock()
        if self._failed_at is None:
            self._failed_at = now
        if self._leases and now - self._failed_at < GRACE_S:
            return
        for key in self._shared():
            self._broker.lease(key, max(1, self._broker.limit_of(key) // self.count))
            self._leases[key] = SlotLease(self._broker.own_slots(key))
        self._tell_elsewhere()

    def _shared(self) -> dict[Key, str]:
        """Return the limits that all replicas share, and the name of each in the store."""
        found: dict[Key, str] = {}
        for key in self._broker.keys:
            url = self._address(key[0])
            if url is not None:
                found[key] = name_of(url, key[1])
        return found

    async def _keep_renewing(self) -> None:
        while True:
            await wait_for_event(self._is_due, self._pause_s())
            self._is_due.clear()
            await self.renew()
            await asyncio.sleep(MIN_PAUSE_S)

    def _pause_s(self) -> float:
        """Return after how many seconds the claims are renewed if nothing happens."""
        shared = self._shared()
        if self.failure is not None or any(self._broker.unmet(key) for key in shared):
            return HUNGRY_PAUSE_S
        return BUSY_PAUSE_S if any(self._own(key).in_flight for key in shared) else RENEW_EVERY_S

    def _send_hint(self) -> None:
        if self._hint is None or self._hint.done():
            self._hint = tasks.start(self._store.publish(SLOTS_HINT), name="hint")


def name_of(url: str, model: str) -> str:
    """Return the name of a limit in the store: replicas that reach the same server by *url* use the same one."""
    host = urlsplit(url).hostname or ""
    where = ""
    if is_loopback(host):
        where = f"{_machine()} {_network()} "
    elif host == "host.docker.internal":
        where = f"{_machine()} "
    return f"{where}{url} {model}"


@cache
def _machine() -> str:
    """Return what is the same for all processes of this machine only."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return f"{getnode():x}"


@cache
def _network() -> str:
    """Return what is the same for all processes that have the same loopback address: a container has its own."""
    try:
        return str(Path("/proc/self/ns/net").readlink())
    except OSError:
        return ""
