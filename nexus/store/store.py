"""The interface of all stores, and its guarantees."""

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from decimal import Context, Decimal, DecimalException, Inexact, InvalidOperation, Overflow
from typing import ClassVar, Final

import msgspec

from nexus.errors import LimitReached

MAX_KEY_BYTES: Final = 1024
MAX_VALUE_BYTES: Final = 64 * 1024
MAX_BATCH: Final = 1000
"""Changes in one batch, and entries in one page of a scan."""

Total = Decimal | None
"""The result of one change of a batch: the new total of an :class:`Add` or :class:`AddIfAtMost`, None for any other."""


class Put(msgspec.Struct, frozen=True):
    """Set *key* to *value*."""

    key: str
    value: bytes

    def __post_init__(self) -> None:
        check_key(self.key)
        if len(self.value) > MAX_VALUE_BYTES:
            raise ValueError(f"a value of {len(self.value)} bytes is too long; the limit is {MAX_VALUE_BYTES}")


class Delete(msgspec.Struct, frozen=True):
    """Remove *key*; no error when it is not there."""

    key: str

    def __post_init__(self) -> None:
        check_key(self.key)


class Add(msgspec.Struct, frozen=True):
    """Add *amount* to the number at *key*, which starts at 0."""

    key: str
    amount: Decimal | int

    def __post_init__(self) -> None:
        check_key(self.key)
        _check_finite(self.key, self.amount)


class AddIfAtMost(msgspec.Struct, frozen=True):
    """Add *amount* to the number at *key*, which starts at 0, if the total is then at most *limit*.

    Otherwise the whole batch changes nothing and :class:`nexus.errors.LimitReached` is raised.
    """

    key: str
    amount: Decimal | int
    limit: Decimal | int

    def __post_init__(self) -> None:
        check_key(self.key)
        _check_finite(self.key, self.amount)
        _check_finite(self.key, self.limit)


def _check_finite(key: str, number: Decimal | int) -> None:
    if not Decimal(number).is_finite():
        raise ValueError(f"cannot add to '{key}' with {number}; give finite numbers")


Change = Put | Delete | Add | AddIfAtMost


class Store(ABC):
    """Keys (text) and values (bytes), for the core and for plugins; prefix a key with the name of its owner.

    All stores guarantee:

    - *Atomicity*: all changes of one :meth:`apply` happen, or none does. Half of them is never visible.
    - *Linearizability*: a change happens at one instant between the call and its return, and every later read sees it.
      Concurrent additions to one number are never lost, from whatever task, process or replica.
    - *Durability* when the call returns: in ``memory`` until :meth:`close`; in ``sqlite`` even if the process is killed
      (a power cut may undo the last changes, each of them as a whole).
    - *Failures*: a :class:`nexus.errors.StoreError` means that the store failed, and that nothing has changed. The one
      exception is its subclass :class:`nexus.errors.StoreOutcomeUnknown`, which a store on another machine raises for a
      change whose answer did not come in time. Like a caller that is cancelled, its caller does not know whether the
      change happened; but it happened whole or not at all, and it is decided before the next call of this process
      succeeds: what that call reads is final.
    - *Bounds*: an overloaded store refuses at once with a StoreError, and never blocks the event loop.

    A ValueError is the caller's fault: an empty or too long key, an addition to a value that is no number.
    """

    survives_restart: ClassVar[bool] = True
    """Whether entries are still there when the store is opened again, also in another process."""
    is_shared: ClassVar[bool] = False
    """Whether it has entries that other processes write, although it may not survive a restart."""

    @abstractmethod
    async def open(self) -> None:
        """Prepare for use. A store that was closed may be opened again."""

    async def check(self) -> None:
        """Raise what :meth:`open` would raise, and change nothing.

        ``nexus-proxy check`` calls it for a store that is not open in this process, and may be open in another. A store
        whose ``open`` creates something overrides it.
        """
        await self.open()
        await self.close()

    @abstractmethod
    async def close(self) -> None:
        """Finish all calls and release all resources; a second call does nothing."""

    @abstractmethod
    async def get(self, key: str) -> bytes | None:
        """Return the value of *key*, None if there is none; the value of a number is its decimal text."""

    @abstractmethod
    async def scan(self, prefix: str, *, after: str = "", limit: int = MAX_BATCH) -> tuple[tuple[str, bytes], ...]:
        """Return the first *limit* entries, sorted by key, whose key begins with *prefix* and is greater than *after*.

        Each page is consistent in itself. For the next page, pass the last key as *after*.
        """

    @abstractmethod
    async def apply(self, changes: Sequence[Change]) -> tuple[Total, ...]:
        """Make all *changes* in order, or none; return the total of each.

        :raises nexus.errors.LimitReached: an :class:`AddIfAtMost` would exceed its limit; nothing has changed.
        """

    async def put(self, key: str, value: bytes) -> None:
        await self.apply((Put(key, value),))

    async def delete(self, key: str) -> None:
        await self.apply((Delete(key),))

    async def add(self, key: str, amount: Decimal | int) -> Decimal:
        """Add *amount* to the number at *key* and return the new total."""
        (total,) = await self.apply((Add(key, amount),))
        assert total is not None  # noqa: S101 - an addition always has a total
        return total

    async def add_if_at_most(self, key: str, amount: Decimal | int, limit: Decimal | int) -> Decimal:
        """Add *amount* to the number at *key* and return the new total, if that is at most *limit*.

        :raises nexus.errors.LimitReached: it would be more; nothing has changed.
        """
        (total,) = await self.apply((AddIfAtMost(key, amount, limit),))
        assert total is not None  # noqa: S101 - an addition always has a total
        return total


def check_key(key: str) -> None:
    """Raise ValueError unless *key* is valid in every store."""
    # NUL ends a text in some stores, and prefix scans use U+10FFFF, which is no character, as their upper bound.
    if not key or len(key.encode()) > MAX_KEY_BYTES or "\0" in key or "\U0010ffff" in key:
        raise ValueError(
            f"{key[:80]!r} is not a valid key; give 1 to {MAX_KEY_BYTES} bytes of text without NUL and U+10FFFF"
        )


def check_batch(changes: Sequence[Change]) -> None:
    """Raise ValueError when *changes* exceed one batch."""
    if len(changes) > MAX_BATCH:
        raise ValueError(f"{len(changes)} changes in one batch; the limit is {MAX_BATCH}")


def page_size(limit: int) -> int:
    """Return *limit* within the bounds of a page."""
    return max(0, min(limit, MAX_BATCH))


def total_of(value: bytes | None, change: Add | AddIfAtMost) -> Decimal:
    """Return the exact total of the stored *value* and the amount of *change*.

    :raises ValueError: *value* is no number, or the total has more than 60 digits.
    :raises LimitReached: the total exceeds the limit of *change*.
    """
    text = b"0" if value is None else value
    try:
        if _NUMBER.fullmatch(text) is None:
            raise cannot_add(change)
        before = _EXACT.create_decimal(text.decode())
        total = _EXACT.add(before, Decimal(change.amount))
    except DecimalException as exc:
        raise cannot_add(change) from exc
    if isinstance(change, AddIfAtMost) and total > change.limit:
        raise LimitReached(change.key, before)
    return total


def cannot_add(change: Add | AddIfAtMost) -> ValueError:
    """Return the error of an addition to what is no number, or with a total that would be rounded."""
    return ValueError(f"cannot add {change.amount} to '{change.key}': not a number, or too long")


def number_text(total: Decimal) -> bytes:
    """Return *total* as every store keeps it: plain decimal text."""
    return f"{total:f}".encode()


_NUMBER: Final = re.compile(rb"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")

# A sum of money must not be rounded silently, so an inexact result is an error.
_EXACT: Final = Context(prec=60, Emax=60, Emin=-60, traps=[Inexact, InvalidOperation, Overflow])
