"""Reserves money for requests, from the open books of this process."""

from collections.abc import Callable
from decimal import Decimal
from enum import Enum, auto

from nexus_budget.book import Book
from nexus_budget.ledger_health import LedgerHealth
from nexus_budget.money import ZERO
from nexus_budget.months import month_of
from nexus_budget.terms import Terms


class Shortfall(Enum):
    """Why money cannot be reserved."""

    DRAWING = auto()
    """It is being drawn and will be there in a moment."""
    EXHAUSTED = auto()
    """Not enough is left."""
    UNREACHABLE = auto()
    """The ledger cannot be reached, so the balance is unknown."""


class Reservation:
    """An estimate that is reserved until the real cost is known."""

    __slots__ = ("_book", "amount_usd")

    def __init__(self, book: Book, amount_usd: Decimal) -> None:
        self._book: Book | None = book
        self.amount_usd = amount_usd

    def settle(self, spent_usd: Decimal) -> None:
        """Book the real cost in the month of the reservation. A second call changes nothing."""
        book, self._book = self._book, None
        if book is not None:
            book.settle(self.amount_usd, spent_usd)


class Account:
    """Reserves money, at once or not at all."""

    def __init__(self, ledger_health: LedgerHealth, hurry: Callable[[], None] = lambda: None) -> None:
        """:param hurry: starts the next round of the bookkeeping now."""
        self.books: dict[str, Book] = {}
        self.replicas = 1
        """How many processes share the budget, when the ledger was last read."""
        self._ledger_health = ledger_health
        self._hurry = hurry
        self._newest: Book | None = None
        self._has_waiting = False

    def book_at(self, unix_s: float) -> Book:
        """Return the book of the month at that instant."""
        book = self._newest
        if book is not None and book.begins_unix_s <= unix_s < book.ends_unix_s:
            return book
        book = self._newest = self.book_of(month_of(unix_s))
        return book

    def book_of(self, month: str) -> Book:
        """Return the book of *month*, opened if necessary."""
        book = self.books.get(month)
        if book is None:
            book = self.books[month] = Book(month)
        return book

    def forget(self, book: Book) -> None:
        """Drop a closed book."""
        self.books.pop(book.month, None)
        self._newest = None

    def shortfall(self, amount_usd: Decimal, unix_s: float, terms: Terms) -> Shortfall | None:
        """Return why *amount_usd* cannot be reserved now; None if it can."""
        ceiling = terms.ceiling_usd
        if ceiling is None:
            return None
        book = self.book_at(unix_s)
        if not self._ledger_health.is_good():
            return _blind_shortfall(amount_usd, book, terms, self.replicas)
        if amount_usd <= book.free_usd:
            return None
        return Shortfall.DRAWING if book.could_draw(amount_usd, ceiling) else Shortfall.EXHAUSTED

    def reserve(self, request_id: str, amount_usd: Decimal, unix_s: float, terms: Terms) -> Reservation | Shortfall:
        """Reserve *amount_usd*, or return why that is impossible.

        A request for which money is being drawn must ask again when it is woken up; it may also leave.
        """
        book = self.book_at(unix_s)
        match self.shortfall(amount_usd, unix_s, terms):
            case None:
                book.note_served(request_id)
                book.reserve(amount_usd)
                return Reservation(book, amount_usd)
            case Shortfall.DRAWING:
                book.note_lacking(request_id, amount_usd)
                self._has_waiting = True
                self._hurry()
                return Shortfall.DRAWING
            case Shortfall.EXHAUSTED:
                book.wanted_usd = max(book.wanted_usd, amount_usd)
                return Shortfall.EXHAUSTED
            case shortfall:
                return shortfall

    def pop_waiting(self) -> bool:
        """Return whether a request was told to wait since the last call."""
        has_waiting, self._has_waiting = self._has_waiting, False
        return has_waiting

    def spend(self, amount_usd: Decimal, unix_s: float) -> None:
        """Book spending that was not reserved."""
        self.book_at(unix_s).settle(Decimal(0), amount_usd)


def _blind_shortfall(amount_usd: Decimal, book: Book, terms: Terms, replicas: int) -> Shortfall | None:
    """Return why *amount_usd* cannot be reserved while the ledger cannot be reached; None if it can."""
    if terms.on_store_failure == "allow":
        return None
    if terms.on_store_failure == "refuse" or not book.is_read:
        return Shortfall.UNREACHABLE
    # Its part of what no process had drawn: if every process takes its part, the limit is reached and not exceeded.
    share = max((terms.ceiling_usd or ZERO) - book.committed_usd, ZERO) / replicas
    return None if amount_usd <= book.free_usd + share else Shortfall.UNREACHABLE
