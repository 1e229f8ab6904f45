"""One month's money in this process: drawn from the common budget, reserved and spent."""

from decimal import Decimal

import msgspec

from nexus_budget.money import ZERO
from nexus_budget.months import bounds


class Draft(msgspec.Struct, frozen=True):
    """One entry in the ledger, and its effect on the book once it is made."""

    order: int
    settled: Decimal
    """The spending that it enters."""
    covered: Decimal
    """The part of that which was drawn before."""
    drawn: Decimal
    """What it draws in addition; negative if it gives back."""
    wanted: Decimal = ZERO
    used: Decimal = ZERO
    """The values of the book's numbers of the same names when the entry was written."""
    lacking: tuple[str, ...] = ()
    """The requests for which it draws."""
    is_last: bool = False
    """Whether it closes the book."""


class Book:
    """All changes are synchronous, so reserving never waits; the ledger follows in the background.

    Drawn money counts as used up for every other process, also after this process is killed. So the sum of all
    reservations can never exceed the budget, whatever other processes do.
    """

    __slots__ = (
        "_lacking",
        "announced_usd",
        "begins_unix_s",
        "committed_usd",
        "draft",
        "drawn_usd",
        "ended_usd",
        "ends_unix_s",
        "entered_order",
        "entered_usd",
        "excess_usd",
        "is_read",
        "month",
        "order",
        "reserved_usd",
        "settled_usd",
        "spent_usd",
        "used_usd",
        "wanted_usd",
    )

    def __init__(self, month: str) -> None:
        self.month = month
        self.begins_unix_s, self.ends_unix_s = bounds(month)
        self.drawn_usd = ZERO
        """Drawn by this process and not yet spent, according to the ledger."""
        self.reserved_usd = ZERO
        """The estimates of running requests."""
        self.settled_usd = ZERO
        """Spent and not in the ledger yet."""
        self.excess_usd = ZERO
        """Drawn and about to be given back."""
        self._lacking: dict[str, Decimal] = {}
        """By request, what could not be reserved at once since the last entry. Waiting requests ask again after each
        entry, so those that left are forgotten."""
        self.wanted_usd = ZERO
        """What could not be drawn at all: other processes may have it to spare."""
        self.announced_usd = ZERO
        """The ``wanted_usd`` of the last entry."""
        self.used_usd = ZERO
        """What was reserved since the last entry."""
        self.spent_usd = ZERO
        """Spent by all processes, when the ledger was last read."""
        self.committed_usd = ZERO
        """The same, plus what they have drawn."""
        self.ended_usd = ZERO
        """Spent by processes that have ended."""
        self.is_read = False
        """Whether the ledger has ever been read."""
        self.order = 0
        """Counts the entries of this process, so that others see that it is alive."""
        self.entered_order = 0
        """The order of the last entry that was made."""
        self.entered_usd = ZERO
        """All spending that this process has entered."""
        self.draft: Draft | None = None
        """An entry that may or may not have been made."""

    @property
    def total_usd(self) -> Decimal:
        """The spending of this month, as far as this process knows."""
        return self.spent_usd + self.settled_usd

    @property
    def short_usd(self) -> Decimal:
        """What was asked for since the last entry and could not be reserved at once."""
        return sum(self._lacking.values(), ZERO)

    @property
    def free_usd(self) -> Decimal:
        """What can be reserved at once."""
        return self.drawn_usd - self.settled_usd - self.reserved_usd - self.excess_usd

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to enter in the ledger."""
        known = self.drawn_usd, self.reserved_usd, self.settled_usd, self.excess_usd
        return self.draft is None and not any((*known, self.short_usd, self.wanted_usd, self.announced_usd))

    def could_draw(self, amount: Decimal, ceiling: Decimal) -> bool:
        """Return whether the budget can cover what is missing of *amount*, as far as this process knows.

        What others wait for does not count: some may leave, and the rest are refused when all is drawn.
        """
        lacking = amount - max(self.free_usd, ZERO)
        return not self.is_read or self.committed_usd - self.excess_usd + lacking <= ceiling

    def reserve(self, amount: Decimal) -> None:
        """Reserve *amount*."""
        self.reserved_usd += amount
        self.used_usd += amount

    def note_lacking(self, request_id: str, amount: Decimal) -> None:
        """Note that a request waits for *amount*: once, however often it asks and at however many backends."""
        self._lacking[request_id] = max(amount, self._lacking.get(request_id, ZERO))

    def note_served(self, request_id: str) -> None:
        """Note that a request no longer waits."""
        self._lacking.pop(request_id, None)

    def settle(self, reserved: Decimal, spent: Decimal) -> None:
        """Replace a reservation with its real cost."""
        self.reserved_usd -= reserved
        self.settled_usd += spent

    def set_aside(self, amount: Decimal) -> None:
        """Keep *amount* from being reserved, because it will be given back."""
        self.excess_usd += amount

    def write(self, drawn: Decimal, *, is_last: bool = False) -> Draft:
        """Begin an entry with all spending; it draws *drawn* or gives it back."""
        self.order += 1
        # Money that is given back cannot cover spending.
        covered = min(self.settled_usd, max(self.drawn_usd + min(drawn, ZERO), ZERO))
        self.draft = Draft(
            self.order,
            self.settled_usd,
            covered,
            drawn,
            wanted=self.wanted_usd,
            used=self.used_usd,
            lacking=tuple(self._lacking),
            is_last=is_last,
        )
        return self.draft

    def entered(self, draft: Draft) -> None:
        """Apply *draft*, which is now in the ledger."""
        self.draft = None
        self.entered_order = 0 if draft.is_last else draft.order
        # What a closed book had entered belongs to the ended processes.
        self.entered_usd = ZERO if draft.is_last else self.entered_usd + draft.settled
        self.settled_usd -= draft.settled
        self.drawn_usd += draft.drawn - draft.covered
        if draft.drawn < 0:
            self.excess_usd += draft.drawn
        # What was asked for meanwhile belongs to the next entry.
        for request_id in draft.lacking:
            self.note_served(request_id)
        self.used_usd -= draft.used
        self.announced_usd = draft.wanted
        if self.wanted_usd == draft.wanted:
            self.wanted_usd = ZERO

    def dropped(self) -> None:
        """Drop the draft, which was not entered."""
        self.draft = None


def next_draw(book: Book, allowance: Decimal, ceiling: Decimal | None, *, others_want: bool) -> Decimal:
    """Return how much to draw next; if negative, how much to give back, which must be set aside first.

    :param allowance: what to have ready beyond what was asked for.
    :param ceiling: the most that all processes may draw together; None for no limit.
    :param others_want: whether another process lacks money that this one may have to spare.
    """
    if book.excess_usd:
        return -book.excess_usd
    free = max(book.drawn_usd - book.settled_usd, ZERO) - book.reserved_usd
    short = book.short_usd
    if not short:
        spare = free - 2 * book.used_usd if others_want else free - 2 * allowance - book.used_usd
        if spare > 0:
            return -spare
        if others_want or 2 * free >= allowance:
            return ZERO
    lacking = max(allowance + short - free, ZERO)
    return lacking if ceiling is None else min(lacking, max(ceiling - book.committed_usd, ZERO))
