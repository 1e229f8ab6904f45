"""The contract for stores that replicas share: subclass :class:`SharedStoreContract` as ``TestSomething``."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from nexus.store.shared import MAX_HINT_BYTES, SharedStore, SlotClaim, SlotLease

TTL_S = 5.0
SHORT_TTL_S = 0.1


@pytest.mark.asyncio
class SharedStoreContract(ABC):
    """Claims are granted up to the limit and expire, and hints reach the other replicas."""

    @abstractmethod
    def make(self, folder: Path) -> SharedStore:
        """Return an unopened store of one more replica; the same folder gives the same entries and claims."""

    @asynccontextmanager
    async def opened(self, folder: Path, count: int = 2) -> AsyncIterator[list[SharedStore]]:
        stores = [self.make(folder) for _ in range(count)]
        self.received: list[list[tuple[str, bytes]]] = [[] for _ in stores]
        for store, received in zip(stores, self.received, strict=True):
            store.listen(lambda topic, message, received=received: received.append((topic, message)))  # type: ignore[misc]
            await store.open()
        try:
            yield stores
        finally:
            for store in stores:
                await store.close()

    async def test_a_replica_gets_what_is_left(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as (one, two):
            first = await one.renew("one", {"gpu": SlotClaim(limit=5, in_use=1, wanted=3)}, ttl_s=TTL_S)
            second = await two.renew("two", {"gpu": SlotClaim(limit=5, in_use=0, wanted=4)}, ttl_s=TTL_S)

        assert (first.replicas, first.leases) == (1, {"gpu": SlotLease(3, free=2)})
        assert (second.replicas, second.leases) == (2, {"gpu": SlotLease(2, in_use_elsewhere=1)})

    async def test_what_is_in_use_is_kept_whatever_others_hold(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as (one, two):
            await one.renew("one", {"gpu": SlotClaim(limit=5, in_use=0, wanted=4)}, ttl_s=TTL_S)
            late = await two.renew("two", {"gpu": SlotClaim(limit=5, in_use=3, wanted=3)}, ttl_s=TTL_S)
            more = await one.renew("one", {"gpu": SlotClaim(limit=5, in_use=0, wanted=4)}, ttl_s=TTL_S)

        assert late.leases["gpu"].slots == 3
        assert more.leases["gpu"].slots == 2

    async def test_a_replica_sees_what_the_others_do_and_would_like(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as (one, two):
            claim = SlotClaim(limit=2, in_use=2, wanted=4, unmet=1, clients=3, prompt_tokens=70, answer_tokens=9)
            await one.renew("one", {"gpu": claim, "cpu": claim}, ttl_s=TTL_S)
            seen = await two.renew("two", {"gpu": SlotClaim(limit=2, in_use=0, wanted=1)}, ttl_s=TTL_S)

        assert seen.leases == {
            "gpu": SlotLease(
                0,
                in_use_elsewhere=2,
                prompt_tokens_elsewhere=70,
                answer_tokens_elsewhere=9,
                unmet_elsewhere=3,
                clients_elsewhere=3,
            )
        }

    async def test_a_key_without_a_claim_gives_its_slots_back(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as (one, two):
            await one.renew("one", {"gpu": SlotClaim(limit=2, in_use=0, wanted=2)}, ttl_s=TTL_S)
            await one.renew("one", {}, ttl_s=TTL_S)
            found = await two.renew("two", {"gpu": SlotClaim(limit=2, in_use=0, wanted=2)}, ttl_s=TTL_S)

        assert (found.replicas, found.leases["gpu"].slots) == (2, 2)

    async def test_a_replica_that_leaves_gives_its_slots_back(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as (one, two):
            await one.renew("one", {"gpu": SlotClaim(limit=2, in_use=0, wanted=2)}, ttl_s=TTL_S)
            await one.leave("one")
            await one.leave("one")
            found = await two.renew("two", {"gpu": SlotClaim(limit=2, in_use=0, wanted=2)}, ttl_s=TTL_S)

        assert (found.replicas, found.leases["gpu"].slots) == (1, 2)

    async def test_claims_that_are_not_renewed_expire(self, tmp_path: Path) -> None:
        wanted = {"gpu": SlotClaim(limit=2, in_use=0, wanted=2)}
        async with self.opened(tmp_path) as (one, two):
            await one.renew("one", {"gpu": SlotClaim(limit=2, in_use=2, wanted=2)}, ttl_s=SHORT_TTL_S)
            before = await two.renew("two", wanted, ttl_s=TTL_S)
            await asyncio.sleep(1.5 * SHORT_TTL_S)
            after = await two.renew("two", wanted, ttl_s=TTL_S)

        assert (before.leases["gpu"].slots, before.replicas) == (0, 2)
        assert (after.leases["gpu"], after.replicas) == (SlotLease(2), 1)

    async def test_concurrent_claims_never_exceed_the_limit(self, tmp_path: Path) -> None:
        claims = {f"gpu-{at}": SlotClaim(limit=10, in_use=0, wanted=7) for at in range(5)}
        async with self.opened(tmp_path, count=3) as stores:
            renewals = await asyncio.gather(
                *(store.renew(str(at), claims, ttl_s=TTL_S) for at, store in enumerate(stores) for _ in range(5))
            )

        for key in claims:
            by_replica = {at: renewal.leases[key].slots for at, renewal in enumerate(renewals[4::5])}
            assert sum(by_replica.values()) <= 10

    async def test_claims_are_no_entries(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as (one, _):
            await one.renew("one", {"gpu": SlotClaim(limit=2, in_use=0, wanted=2)}, ttl_s=TTL_S)

            assert await one.get("gpu") is None
            assert await one.scan("") == ()

    async def test_entries_are_shared(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as (one, two):
            await one.put("drained/gpu", b"1")

            assert await two.get("drained/gpu") == b"1"

    async def test_a_hint_reaches_all_other_replicas(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path, count=3) as stores:
            async with asyncio.timeout(5):
                while not (self.received[1] and self.received[2]):
                    # A subscription may begin a moment after the store was opened.
                    await stores[0].publish("slots", b"gpu")
                    await asyncio.sleep(0.01)

        assert self.received[0] == []
        assert {*self.received[1], *self.received[2]} == {("slots", b"gpu")}

    async def test_a_hint_that_is_too_long_is_refused(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as (one, _):
            with pytest.raises(ValueError, match="too long"):
                await one.publish("slots", b"x" * (MAX_HINT_BYTES + 1))
