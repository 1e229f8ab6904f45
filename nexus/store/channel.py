"""The store of another process, by way of a channel to it."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Iterator, Sequence
from decimal import Decimal
from itertools import count
from typing import Final, Self, TypeVar, assert_never

import msgspec

from nexus.errors import LimitReached, StoreError, StoreOutcomeUnknown
from nexus.store.store import MAX_BATCH, Add, AddIfAtMost, Change, Delete, Put, Store, Total, check_batch, page_size
from nexus.workers.channel import Channel, ChannelClosed, ChannelError, ChannelFull

ANSWER_S: Final = 60.0
"""How long the other process may take; its store gives up much earlier."""
MAX_WAITING: Final = 1000
"""Calls that may wait for an answer; further ones are refused."""
MAX_PART_BYTES: Final = 4 * 2**20
"""Of a batch or a page that is sent in parts, because a message must not be longer than a channel allows."""

T = TypeVar("T")

Entries = tuple[tuple[str, bytes], ...]


class SentChange(msgspec.Struct, frozen=True, array_like=True):
    """One change of a batch."""

    key: str
    value: bytes | None = None
    """To put."""
    amount: Decimal | None = None
    """To add; without it and without a value, the key is deleted."""
    limit: Decimal | None = None

    @classmethod
    def of(cls, change: Change) -> Self:
        """Return *change* as it is sent."""
        match change:
            case Put(key, value):
                return cls(key, value)
            case Delete(key):
                return cls(key)
            case Add(key, amount):
                return cls(key, None, Decimal(amount))
            case AddIfAtMost(key, amount, limit):
                return cls(key, None, Decimal(amount), Decimal(limit))
            case _:
                assert_never(change)

    def change(self) -> Change:
        """Return the change that was sent."""
        if self.value is not None:
            return Put(self.key, self.value)
        if self.amount is None:
            return Delete(self.key)
        return Add(self.key, self.amount) if self.limit is None else AddIfAtMost(self.key, self.amount, self.limit)


class Batch(msgspec.Struct, frozen=True, array_like=True):
    """``store.apply``, a question; ``store.changes``, a message with the part of a batch that comes before."""

    number: int
    changes: tuple[SentChange, ...]


class Scan(msgspec.Struct, frozen=True, array_like=True):
    """``store.scan``, a question."""

    number: int
    prefix: str
    after: str
    limit: int


class Page(msgspec.Struct, frozen=True, array_like=True):
    """``store.entries``, a message with the part of a page that comes before its answer."""

    number: int
    entries: Entries


class Failed(msgspec.Struct, frozen=True, array_like=True):
    """Why a call has failed."""

    error: str
    text: str
    key: str = ""
    total: Decimal | None = None


class Answer(msgspec.Struct, frozen=True, array_like=True):
    """The answer to each question."""

    value: bytes | None = None
    entries: Entries = ()
    totals: tuple[Total, ...] = ()
    failed: Failed | None = None


class Opened(msgspec.Struct, frozen=True, array_like=True):
    """The answer to ``store.open``."""

    survives_restart: bool
    has_replicas: bool


class ChannelStore(Store):
    """Keeps no entries: each call is one question to the process that has the store, with the same guarantees.

    If that process ends or does not answer, a change may have happened, as with a store on another machine.
    """

    is_shared = True

    def __init__(self, channel: Channel) -> None:
        """:param channel: not open yet; the other end has been given to :func:`serve_store`."""
        self.has_replicas = False
        """Whether replicas share the store; known once it is open."""
        self._channel = channel
        self._numbers = count(1)
        self._parts: dict[int, list[tuple[str, bytes]]] = {}
        self._waiting = 0
        self._is_idle = asyncio.Event()
        self._is_idle.set()
        self._is_open = False
        channel.on("store.entries", Page, self._take_part)

    async def open(self) -> None:
        try:
            opened = await self._channel.ask("store.open", None, Opened, timeout_s=ANSWER_S)
        except ChannelError as exc:
            raise StoreError(f"the store of the parent process cannot be used: {exc}") from exc
        self.survives_restart = opened.survives_restart  # type: ignore[misc]  # only the other process knows
        self.has_replicas = opened.has_replicas
        self._is_open = True

    async def check(self) -> None:
        """Do nothing: the process that has the store checks it."""

    async def close(self) -> None:
        self._is_open = False
        await self._is_idle.wait()

    async def get(self, key: str) -> bytes | None:
        return (await self._ask("store.get", key)).value

    async def scan(self, prefix: str, *, after: str = "", limit: int = MAX_BATCH) -> Entries:
        number = next(self._numbers)
        self._parts[number] = []
        try:
            answer = await self._ask("store.scan", Scan(number, prefix, after, page_size(limit)))
            return (*self._parts[number], *answer.entries)
        finally:
            del self._parts[number]

    async def apply(self, changes: Sequence[Change]) -> tuple[Total, ...]:
        check_batch(changes)
        number = next(self._numbers)
        *before, last = _parts([SentChange.of(change) for change in changes])
        self._check_room()
        try:
            for part in before:
                self._channel.send("store.changes", Batch(number, tuple(part)))
        except ChannelError as exc:
            raise StoreError(f"the store of the parent process is out of reach: {exc}") from exc
        return (await self._ask("store.apply", Batch(number, tuple(last)), is_change=True)).totals

    def _check_room(self) -> None:
        if not self._is_open:
            raise StoreError("the store of the parent process is not open")
        if self._waiting >= MAX_WAITING:
            raise StoreError(f"the store of the parent process is overloaded: {self._waiting} calls are waiting")

    async def _ask(self, topic: str, question: object, *, is_change: bool = False) -> Answer:
        self._check_room()
        was_open = self._channel.is_open
        self._waiting += 1
        self._is_idle.clear()
        try:
            answer = await self._channel.ask(topic, question, Answer, timeout_s=ANSWER_S)
        except ChannelError as exc:
            # What was not sent has not happened.
            is_unsent = isinstance(exc, ChannelFull) or (isinstance(exc, ChannelClosed) and not was_open)
            kind = StoreOutcomeUnknown if is_change and not is_unsent else StoreError
            raise kind(f"the store of the parent process is out of reach: {exc}") from exc
        finally:
            self._waiting -= 1
            if not self._waiting:
                self._is_idle.set()
        if answer.failed is not None:
            raise _received(answer.failed)
        return answer

    def _take_part(self, page: Page) -> None:
        if (parts := self._parts.get(page.number)) is not None:
            parts += page.entries


def serve_store(store: Store, channel: Channel) -> None:
    """Let the :class:`ChannelStore` at the other end of *channel*, which is not open yet, use *store*, which is."""
    parts: defaultdict[int, list[SentChange]] = defaultdict(list)

    def take_part(batch: Batch) -> None:
        parts[batch.number] += batch.changes

    async def open_() -> Opened:
        return Opened(store.survives_restart, bool(getattr(store, "has_replicas", False)))

    async def get(key: str) -> Answer:
        return Answer(value=await store.get(key))

    async def scan(asked: Scan) -> Answer:
        entries = await store.scan(asked.prefix, after=asked.after, limit=asked.limit)
        *before, last = _parts(entries)
        for part in before:
            channel.send("store.entries", Page(asked.number, tuple(part)))
        return Answer(entries=tuple(last))

    async def apply(batch: Batch) -> Answer:
        sent = (*parts.pop(batch.number, ()), *batch.changes)
        return Answer(totals=await store.apply(tuple(each.change() for each in sent)))

    channel.on("store.changes", Batch, take_part)
    channel.answers("store.open", type(None), lambda _: open_())
    channel.answers("store.get", str, lambda key: _answered(get(key)))
    channel.answers("store.scan", Scan, lambda asked: _answered(scan(asked)))
    channel.answers("store.apply", Batch, lambda batch: _answered(apply(batch)))


async def _answered(call: Awaitable[Answer]) -> Answer:
    try:
        return await call
    except LimitReached as exc:
        return Answer(failed=Failed("LimitReached", "", exc.key, exc.total))
    except StoreOutcomeUnknown as exc:
        return Answer(failed=Failed("StoreOutcomeUnknown", str(exc)))
    except StoreError as exc:
        return Answer(failed=Failed("StoreError", str(exc)))
    except ValueError as exc:
        return Answer(failed=Failed("ValueError", str(exc)))


def _received(failed: Failed) -> Exception:
    """Return the exception that was sent."""
    match failed.error:
        case "LimitReached":
            return LimitReached(failed.key, failed.total or Decimal(0))
        case "StoreOutcomeUnknown":
            return StoreOutcomeUnknown(failed.text)
        case "ValueError":
            return ValueError(failed.text)
    return StoreError(failed.text)


P = TypeVar("P", SentChange, tuple[str, bytes])


def _parts(things: Sequence[P]) -> Iterator[list[P]]:
    """Divide *things* into lists of at most :data:`MAX_PART_BYTES`; there is at least one, which may be empty."""
    part: list[P] = []
    size = 0
    for thing in things:
        value = thing.value if isinstance(thing, SentChange) else thing[1]
        part.append(thing)
        size += len(value or b"")
        if size >= MAX_PART_BYTES:
            yield part
            part, size = [], 0
    yield part
