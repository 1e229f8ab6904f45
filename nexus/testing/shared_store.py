"""A store in memory that several replicas of one process share, for tests."""

import time
from collections.abc import Callable, Mapping

from nexus.errors import StoreError
from nexus.store.memory import MemoryStore
from nexus.store.shared import MAX_HINT_BYTES, Renewal, SharedStore, SlotClaim, SlotLease


class SharedMemory:
    """What the stores of all replicas have in common: entries, claims and listeners."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.entries: dict[str, bytes] = {}
        self.claims: dict[str, tuple[float, Mapping[str, tuple[SlotClaim, int]]]] = {}
        """By replica: when its claims expire, and each claim with the slots that were granted."""
        self.stores: list[SharedMemoryStore] = []
        self.killed: set[str] = set()
        self.failure: str | None = None
        """While it is set, every call fails with it."""

    def lapse(self, replica: str) -> None:
        """Let the claims of *replica* expire, and refuse it as if it had been killed."""
        self.claims.pop(replica, None)
        self.killed.add(replica)

    def store(self) -> "SharedMemoryStore":
        """Return the store of one more replica."""
        return SharedMemoryStore(self)


class SharedMemoryStore(MemoryStore, SharedStore):
    """The store of one replica."""

    survives_restart = True

    def __init__(self, shared: SharedMemory) -> None:
        super().__init__()
        self._shared = shared
        self.receive: Callable[[str, bytes], None] | None = None

    async def open(self) -> None:
        self._entries = self._shared.entries
        if self not in self._shared.stores:
            self._shared.stores.append(self)

    async def close(self) -> None:
        self._entries = None
        if self in self._shared.stores:
            self._shared.stores.remove(self)

    async def renew(self, replica: str, claims: Mapping[str, SlotClaim], *, ttl_s: float) -> Renewal:
        self._opened()
        if replica in self._shared.killed:
            raise StoreError("this replica was killed")
        now, every = self._shared.clock(), self._shared.claims
        for name in [name for name, (until, _) in every.items() if until <= now]:
            del every[name]
        others = [of_one for name, (_, of_one) in every.items() if name != replica]
        leases = {key: _lease(claim, [each[key] for each in others if key in each]) for key, claim in claims.items()}
        every[replica] = now + ttl_s, {key: (claim, leases[key].slots) for key, claim in claims.items()}
        return Renewal(len(every), leases)

    async def leave(self, replica: str) -> None:
        self._opened()
        self._shared.claims.pop(replica, None)

    async def publish(self, topic: str, message: bytes) -> None:
        self._opened()
        if len(message) > MAX_HINT_BYTES:
            raise ValueError(f"a hint of {len(message)} bytes is too long; the limit is {MAX_HINT_BYTES}")
        for store in self._shared.stores:
            if store is not self and store.receive is not None:
                store.receive(topic, message)

    def listen(self, receive: Callable[[str, bytes], None]) -> None:
        self.receive = receive

    def _opened(self) -> dict[str, bytes]:
        if self._shared.failure is not None:
            raise StoreError(self._shared.failure)
        return super()._opened()


def _lease(claim: SlotClaim, others: list[tuple[SlotClaim, int]]) -> SlotLease:
    left = claim.limit - sum(slots for _, slots in others)
    slots = max(claim.in_use, min(claim.wanted, left))
    return SlotLease(
        slots=slots,
        in_use_elsewhere=sum(each.in_use for each, _ in others),
        prompt_tokens_elsewhere=sum(each.prompt_tokens for each, _ in others),
        answer_tokens_elsewhere=sum(each.answer_tokens for each, _ in others),
        unmet_elsewhere=sum(each.unmet + max(0, each.wanted - granted) for each, granted in others),
        clients_elsewhere=sum(each.clients for each, _ in others),
        free=max(0, left - slots),
    )
