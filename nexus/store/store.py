"""The interface of all stores, and its guarantees."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from decimal import Context, Decimal, DecimalException, Inexact, InvalidOperation, Overflow
from typing import ClassVar, Final

import msgspec

MAX_KEY_BYTES: Final = 1024
MAX_VALUE_BYTES: Final = 64 * 1024
MAX_BATCH: Final = 1000
"""Changes in one batch, and entries in one page of a scan."""

Total = Decimal | None
"""The result of one change of a batch: the new total of an :class:`Add`, None for any other."""


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
        if not Decimal(self.amount).is_finite():
            raise ValueError(f"cannot add {self.amount} to '{self.key}'; give a finite number")


Change = Put | Delete | Add


class Store(ABC):
    """Keys (text) and values (bytes), for the core and for plugins; prefix a key with the name of its owner.

    All stores guarantee:

    - *Atomicity*: all changes of one :meth:`apply` happen, or none does. Half of them is never visible.
    - *Linearizability*: a change happens at one instant between the call and its return, and every later read sees it.
      Concurrent additions to one number are never lost, from whatever task, process or replica.
    - *Durability* when the call returns: in ``memory`` until :meth:`close`; in ``sqlite`` even if the process is killed
      (a power cut may undo the last changes, each of them as a whole).
    - *Failures*: a :class:`nexus.errors.StoreError` means that the store failed, and that nothing has changed.
      A caller that is cancelled does not know whether its change happened, but it happened whole or not at all.
    - *Bounds*: an overloaded store refuses at once with a StoreError, and never blocks the event loop.

    A ValueError is the caller's fault: an empty or too long key, an addition to a value that is no number.
    """

    survives_restart: ClassVar[bool] = True
    """Whether entries are still there when the store is opened again, also in another process."""

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
        """Make all *changes* in order, or none; return the total of each."""

    async def put(self, key: str, value: bytes) -> None:
        await self.apply((Put(key, value),))

    async def delete(self, key: str) -> None:
        await self.apply((Delete(key),))

    async def add(self, key: str, amount: Decimal | int) -> Decimal:
        """Add *amount* to the number at *key* and return the new total."""
        (total,) = await self.apply((Add(key, amount),))
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


def total_of(value: bytes | None, change: Add) -> Decimal:
    """Return the exact total of the stored *value* and the amount of *change*."""
    try:
        return _EXACT.add(_EXACT.create_decimal((value or b"0").decode()), Decimal(change.amount))
    except (DecimalException, UnicodeDecodeError) as exc:
        raise ValueError(f"cannot add {change.amount} to '{change.key}': not a number, or too long") from exc


def number_text(total: Decimal) -> bytes:
    """Return *total* as every store keeps it: plain decimal text."""
    return f"{total:f}".encode()


# A sum of money must not be rounded silently, so an inexact result is an error.
_EXACT: Final = Context(prec=60, Emax=60, Emin=-60, traps=[Inexact, InvalidOperation, Overflow])
