"""What every store offers, and what its callers may rely on."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from decimal import Context, Decimal, DecimalException, Inexact, InvalidOperation, Overflow
from typing import ClassVar, Final

import msgspec

MAX_KEY_BYTES: Final = 1024
MAX_VALUE_BYTES: Final = 64 * 1024
MAX_BATCH: Final = 1000
"""Changes that one batch may hold, and entries that one page of a scan may."""

Total = Decimal | None
"""What one change of a batch leaves: the new total of an :class:`Add`, None of any other."""


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
    """Add *amount* to the number at *key*, which is 0 until something was added to it."""

    key: str
    amount: Decimal | int

    def __post_init__(self) -> None:
        check_key(self.key)
        if not Decimal(self.amount).is_finite():
            raise ValueError(f"cannot add {self.amount} to '{self.key}'; give a finite number")


Change = Put | Delete | Add


class Store(ABC):
    """Keys (text) and values (bytes), for the core and for plugins; prefix a key with the name of its owner.

    What a caller may rely on, whichever store it is:

    - *Atomic*: all changes of one :meth:`apply` happen, or none does. Nobody ever sees half of them.
    - *Linear*: a change happens at one instant between the call and its return. Whoever reads after that return sees
      it. Two additions to one number never lose one, whatever task, process or replica they come from.
    - *Durable* when the call returns, as far as the store goes: ``memory`` until :meth:`close`; ``sqlite`` even if the
      process is killed (a power cut may take the last changes, all of each or nothing).
    - *Failing*: a :class:`nexus.errors.StoreError` says that the store cannot do it now, and that nothing has changed.
      A caller that is cancelled does not know whether its change happened, but it happened whole or not at all.
    - *Bounded*: a store with too much to do refuses at once with a StoreError, and never blocks the event loop.

    A ValueError is the caller's fault: a key that is empty or too long, an addition to what is no number.
    """

    survives_restart: ClassVar[bool] = True
    """Whether what was put is there again when the store is opened again, in another process too."""

    @abstractmethod
    async def open(self) -> None:
        """Make ready for use. A store that is closed may be opened again."""

    async def check(self) -> None:
        """Raise what :meth:`open` would raise, and leave everything as it was.

        ``nexus-proxy check`` calls it for a store that is not open here, and may be open in another process. A store
        whose opening creates something overrides it.
        """
        await self.open()
        await self.close()

    @abstractmethod
    async def close(self) -> None:
        """Finish what was asked for, then let go of everything; a second time does nothing."""

    @abstractmethod
    async def get(self, key: str) -> bytes | None:
        """Return the value of *key*, None when there is none. That of a number is its decimal text."""

    @abstractmethod
    async def scan(self, prefix: str, *, after: str = "", limit: int = MAX_BATCH) -> tuple[tuple[str, bytes], ...]:
        """Return the first *limit* entries whose key begins with *prefix* and sorts behind *after*, by key.

        Each page is taken at one instant, different pages are not. The next page begins *after* the last key of this.
        """

    @abstractmethod
    async def apply(self, changes: Sequence[Change]) -> tuple[Total, ...]:
        """Make all *changes*, in their order, or none; return what each left."""

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
    """Raise ValueError unless *key* is one that every store can keep."""
    # NUL ends a text in some stores, and U+10FFFF, no character, is what a prefix scan of others ends before.
    if not key or len(key.encode()) > MAX_KEY_BYTES or "\0" in key or "\U0010ffff" in key:
        raise ValueError(f"{key[:80]!r} is no key; give 1 to {MAX_KEY_BYTES} bytes of text without NUL and U+10FFFF")


def check_batch(changes: Sequence[Change]) -> None:
    """Raise ValueError when *changes* are more than one batch may hold."""
    if len(changes) > MAX_BATCH:
        raise ValueError(f"{len(changes)} changes in one batch; the limit is {MAX_BATCH}")


def page_size(limit: int) -> int:
    """Return how many entries a page has that was asked for with *limit*."""
    return max(0, min(limit, MAX_BATCH))


def total_of(value: bytes | None, change: Add) -> Decimal:
    """Return the total of *value*, as it is stored, and the amount of *change*, exact to the last digit."""
    try:
        return _EXACT.add(_EXACT.create_decimal((value or b"0").decode()), Decimal(change.amount))
    except (DecimalException, UnicodeDecodeError) as exc:
        raise ValueError(f"cannot add {change.amount} to '{change.key}': it is no number, or too long a one") from exc


def number_text(total: Decimal) -> bytes:
    """Return how a number is stored: plain decimal text, the same in every store."""
    return f"{total:f}".encode()


# A sum of money that was silently rounded is a wrong sum, so whatever is not exact is refused.
_EXACT: Final = Context(prec=60, Emax=60, Emin=-60, traps=[Inexact, InvalidOperation, Overflow])
