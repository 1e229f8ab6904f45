"""A store in Redis or Valkey, which several replicas share."""

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Final, assert_never
from uuid import uuid4

import msgspec

from nexus.api import (
    Add,
    AddIfAtMost,
    Delete,
    LimitReached,
    Put,
    Renewal,
    SharedStore,
    SlotClaim,
    SlotLease,
    StoreError,
)
from nexus_redis.config import RedisConfig
from nexus_redis.decimals import amount_text, limit_text
from nexus_redis.hints import Hints
from nexus_redis.link import Link
from nexus_redis.server import client_of, place

Change = Put | Delete | Add | AddIfAtMost

MAX_BATCH: Final = 1000
MAX_HINT_BYTES: Final = 8 * 1024
ANSWER_MS: Final = 60_000
"""How long the server keeps the answer to a change, so that sending it again does not make it again."""
LEASE_NUMBERS: Final = len(SlotLease.__struct_fields__)
AFTER_ALL: Final = "\U0010ffff"


class RedisStore(SharedStore):
    """Keeps all entries in one hash and their order in one sorted set; scripts change both in one step."""

    def __init__(self, config: RedisConfig) -> None:
        self._config = config
        # One hash slot, should the server be a cluster.
        prefix = f"{{{config.prefix}}}"
        self._entries, self._order, self._operation = f"{prefix}:entries", f"{prefix}:order", f"{prefix}:made:"
        self._replicas, self._claims, self._channel = f"{prefix}:replicas", f"{prefix}:claims", f"{prefix}:hints"
        self._link: Link | None = None
        self._id = uuid4().hex
        """Begins each hint, so that it is known as its own."""
        self._receive: Callable[[str, bytes], None] | None = None
        self._hints: Hints | None = None

    async def open(self) -> None:
        client = client_of(self._config)
        link = Link(client, place(self._config), self._config.timeout_seconds)
        await link.open()
        try:
            # Whether it may be read, and has the hash slot.
            await link.call(None, "HGET", self._entries, "")
        except StoreError:
            await link.close()
            raise
        self._link = link
        if self._receive is not None:
            self._hints = Hints(client_of(self._config), self._channel, self._id, self._receive)
            self._hints.open()

    async def close(self) -> None:
        link, self._link = self._link, None
        hints, self._hints = self._hints, None
        if hints is not None:
            await hints.close()
        if link is not None:
            await link.close()

    async def get(self, key: str) -> bytes | None:
        value: bytes | None = await self._opened().call(None, "HGET", self._entries, key)
        return value

    async def scan(self, prefix: str, *, after: str = "", limit: int = MAX_BATCH) -> tuple[tuple[str, bytes], ...]:
        size = max(0, min(limit, MAX_BATCH))
        first = f"({after}" if after >= prefix else f"[{prefix}"
        bounds = "-" if first == "(" else first, f"({prefix}{AFTER_ALL}"
        link = self._opened()
        keys, values = await link.call("scan", 2, self._entries, self._order, *bounds, size) if size else ((), ())
        return tuple((key.decode(), value) for key, value in zip(keys, values, strict=True))

    async def apply(self, changes: Sequence[Change]) -> tuple[Decimal | None, ...]:
        if len(changes) > MAX_BATCH:
            raise ValueError(f"{len(changes)} changes in one batch; the limit is {MAX_BATCH}")
        words = [word for change in changes for word in _words(change)]
        link = self._opened()
        if not changes:
            return ()
        made = self._new_operation()
        answer: bytes = await link.call("apply", 3, self._entries, self._order, made, ANSWER_MS, *words, key=made)
        outcome, *lines = answer.decode().split("\n")
        if outcome == "ok":
            return tuple(Decimal(line) if line else None for line in lines)
        if outcome == "void":
            raise self._too_late()
        change = changes[int(lines[0]) - 1]
        if outcome == "limit":
            raise LimitReached(change.key, Decimal(lines[1]))
        raise _not_added(change)

    async def renew(self, replica: str, claims: Mapping[str, SlotClaim], *, ttl_s: float) -> Renewal:
        words = [word for key, claim in claims.items() for word in (key, *msgspec.structs.astuple(claim))]
        ttl_ms = max(1, round(ttl_s * 1000))
        made = self._new_operation()
        found: list[int] = await self._opened().call(
            "renew", 3, self._replicas, self._claims, made, replica, ttl_ms, *words, key=made
        )
        if not found:
            raise self._too_late()
        replicas, *numbers = found
        leases = (SlotLease(*numbers[at : at + LEASE_NUMBERS]) for at in range(0, len(numbers), LEASE_NUMBERS))
        return Renewal(replicas, dict(zip(claims, leases, strict=True)))

    async def leave(self, replica: str) -> None:
        await self._opened().call("leave", 2, self._replicas, self._claims, replica)

    async def publish(self, topic: str, message: bytes) -> None:
        if len(message) > MAX_HINT_BYTES:
            raise ValueError(f"a hint of {len(message)} bytes is too long; the limit is {MAX_HINT_BYTES}")
        hint = b"\n".join((self._id.encode(), topic.encode(), message))
        await self._opened().call(None, "PUBLISH", self._channel, hint)

    def listen(self, receive: Callable[[str, bytes], None]) -> None:
        self._receive = receive

    def _too_late(self) -> StoreError:
        return StoreError(f"store {place(self._config)}: the change came too late and was not made")

    def _new_operation(self) -> str:
        return f"{self._operation}{uuid4().hex}"

    def _opened(self) -> Link:
        if self._link is None:
            raise StoreError(f"store {place(self._config)} is not open")
        return self._link


def _words(change: Change) -> tuple[str | bytes, ...]:
    """Return what the script reads of *change*."""
    match change:
        case Put(key, value):
            return "P", key, value
        case Delete(key):
            return "D", key
        case Add(key, amount):
            return "A", key, _amount(change, amount)
        case AddIfAtMost(key, amount, limit):
            return "L", key, _amount(change, amount), limit_text(limit)
        case _:
            assert_never(change)


def _amount(change: Change, amount: Decimal | int) -> str:
    text = amount_text(amount)
    if text is None:
        raise _not_added(change)
    return text


def _not_added(change: Change) -> ValueError:
    return ValueError(f"cannot add to '{change.key}': not a number, or too long")
