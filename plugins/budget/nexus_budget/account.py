"""The books of all months that are open in this process, and who may spend from them."""

from collections.abc import Callable
from decimal import Decimal
from enum import Enum, auto

from nexus_budget.book import Book
from nexus_budget.months import month_of
from nexus_budget.reach import Reach
from nexus_budget.terms import Terms


class Lack(Enum):
    """Why money cannot be promised."""

    DRAWING = auto()
    """It is being drawn; in a moment it is there."""
    EXHAUSTED = auto()
    """There is not so much left."""
    UNREACHABLE = auto()
    """The ledger cannot be reached, so nobody knows."""


class Reservation:
    """An estimate that is held until it is known what it has come to."""

    __slots__ = ("_book", "amount_usd")

    def __init__(self, book: Book, amount_usd: Decimal) -> None:
        self._book: Book | None = book
        self.amount_usd = amount_usd

    def settle(self, spent_usd: Decimal) -> None:
        """Note what it has cost, in the month in which it was promised. A second call changes nothing."""
        book, self._book = self._book, None
        if book is not None:
            book.settle(self.amount_usd, spent_usd)


class Account:
    """Promises money, at once or not at all."""

    def __init__(self, reach: Reach, hurry: Callable[[], None] = lambda: None) -> None:
        """:param hurry: lets the bookkeeping begin its next round now."""
        self.books: dict[str, Book] = {}
        self._reach = reach
        self._hurry = hurry
        self._newest: Book | None = None
        self._is_awaited = False

    def book_at(self, unix_s: float) -> Book:
        """Return the book of the month in which that instant is."""
        book = self._newest
        if book is not None and book.begins_unix_s <= unix_s < book.ends_unix_s:
            return book
        book = self._newest = self.book_of(month_of(unix_s))
        return book

    def book_of(self, month: str) -> Book:
        """Return the book of *month*, opened if it was not."""
        book = self.books.get(month)
        if book is None:
            book = self.books[month] = Book(month)
        return book

    def forget(self, book: Book) -> None:
        """Let go of a book that is closed."""
        self.books.pop(book.month, None)
        self._newest = None

    def lack(self, amount_usd: Decimal, unix_s: float, terms: Terms) -> Lack | None:
        """Say why *amount_usd* could not be promised now; None: it could."""
        ceiling = terms.ceiling_usd
        if ceiling is None:
            return None
        if not self._reach.is_good():
            return Lack.UNREACHABLE
        book = self.book_at(unix_s)
        if amount_usd <= book.free_usd:
            return None
        return Lack.DRAWING if book.could_draw(amount_usd, ceiling) else Lack.EXHAUSTED

    def reserve(self, request_id: str, amount_usd: Decimal, unix_s: float, terms: Terms) -> Reservation | Lack:
        """Promise *amount_usd*, or say why not.

        A request for whom it is being drawn is to ask again when it is let try again; it may leave without a word.
        """
        book = self.book_at(unix_s)
        match self.lack(amount_usd, unix_s, terms):
            case None:
                book.note_served(request_id)
                book.reserve(amount_usd)
                return Reservation(book, amount_usd)
            case Lack.DRAWING:
                book.note_lacking(request_id, amount_usd)
                self._is_awaited = True
                self._hurry()
                return Lack.DRAWING
            case Lack.EXHAUSTED:
                book.wanted_usd = max(book.wanted_usd, amount_usd)
                return Lack.EXHAUSTED
            case lack:
                return lack

    def take_awaited(self) -> bool:
        """Say whether somebody was told to wait since this was last asked."""
        is_awaited, self._is_awaited = self._is_awaited, False
        return is_awaited

    def spend(self, amount_usd: Decimal, unix_s: float) -> None:
        """Note what was spent without having been promised."""
        self.book_at(unix_s).settle(Decimal(0), amount_usd)
