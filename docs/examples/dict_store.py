"""A store in a dict, ``[store] kind = "dict"``: the shortest that passes the contract of stores."""

from collections.abc import Callable, Sequence
from decimal import Context, Decimal, Inexact, InvalidOperation

from nexus.api import Add, AddIfAtMost, Delete, LimitReached, Put, Store, StoreConfig, StoreError, hookimpl

MAX_ITEMS = 1000
EXACT = Context(prec=60, traps=[Inexact, InvalidOperation])
Change = Put | Delete | Add | AddIfAtMost


class DictStore(Store):
    """Forgets everything when it is closed. Nothing here awaits, so each call is atomic."""

    survives_restart = False

    def __init__(self) -> None:
        self._entries: dict[str, bytes] | None = None

    async def open(self) -> None:
        self._entries = {}

    async def close(self) -> None:
        self._entries = None

    async def get(self, key: str) -> bytes | None:
        return self._opened().get(key)

    async def scan(self, prefix: str, *, after: str = "", limit: int = MAX_ITEMS) -> tuple[tuple[str, bytes], ...]:
        found = [(k, v) for k, v in sorted(self._opened().items()) if k.startswith(prefix) and k > after]
        return tuple(found[: max(0, min(limit, MAX_ITEMS))])

    async def apply(self, changes: Sequence[Change]) -> tuple[Decimal | None, ...]:
        if len(changes) > MAX_ITEMS:
            raise ValueError(f"{len(changes)} changes in one batch; the limit is {MAX_ITEMS}")
        entries = dict(self._opened())
        totals = tuple(change_one(entries, change) for change in changes)
        # Only now, when nothing can fail any more.
        self._entries = entries
        return totals

    def _opened(self) -> dict[str, bytes]:
        if self._entries is None:
            raise StoreError("the dict store is not open")
        return self._entries


def change_one(entries: dict[str, bytes], change: Change) -> Decimal | None:
    """Change *entries*, and return the new total of a number."""
    match change:
        case Put(key, value):
            entries[key] = value
        case Delete(key):
            entries.pop(key, None)
        case Add(key, amount) | AddIfAtMost(key, amount):
            try:
                before = EXACT.create_decimal(entries.get(key, b"0").decode())
                total = EXACT.add(before, Decimal(amount))
            except (ArithmeticError, UnicodeDecodeError) as exc:
                raise ValueError(f"cannot add {amount} to '{key}'") from exc
            if not total.is_finite():
                raise ValueError(f"cannot add {amount} to '{key}'")
            if isinstance(change, AddIfAtMost) and total > change.limit:
                raise LimitReached(key, before)
            entries[key] = f"{total:f}".encode()
            return total
    return None


@hookimpl
def nexus_stores() -> list[tuple[str, Callable[[StoreConfig], Store]]]:
    return [("dict", lambda _config: DictStore())]
