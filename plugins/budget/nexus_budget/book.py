"""One month's money in this process: what was drawn of the common budget, what of that is promised, what is spent."""

from decimal import Decimal

import msgspec

from nexus_budget.money import ZERO
from nexus_budget.months import bounds


class Draft(msgspec.Struct, frozen=True):
    """What one entry in the ledger says, and does to the book once it is made."""

    order: int
    settled: Decimal
    """What of the spending it enters."""
    covered: Decimal
    """How much of that was drawn before."""
    drawn: Decimal
    """What it draws in addition; negative when it gives back."""
    wanted: Decimal = ZERO
    used: Decimal = ZERO
    """What it answers of the book's numbers of the same names."""
    lacking: tuple[str, ...] = ()
    """The requests for which it draws."""
    is_last: bool = False
    """Whether it closes the book."""


class Book:
    """All changes are synchronous, so that whoever reserves never waits; the ledger follows in the background.

    What was drawn counts as used up for every other process, and for this month after this process is killed. So the
    sum of what is promised here can never be more than the budget, whatever the others do.
    """

    __slots__ = (
        "_lacking",
        "begins_unix_s",
        "committed_usd",
        "draft",
        "drawn_usd",
        "ends_unix_s",
        "excess_usd",
        "is_read",
        "month",
        "order",
        "reserved_usd",
        "settled_usd",
        "spent_usd",
        "told_usd",
        "used_usd",
        "wanted_usd",
    )

    def __init__(self, month: str) -> None:
        self.month = month
        self.begins_unix_s, self.ends_unix_s = bounds(month)
        self.drawn_usd = ZERO
        """What the ledger says that this process has drawn and not yet spent."""
        self.reserved_usd = ZERO
        """The estimates of what is under way."""
        self.settled_usd = ZERO
        """What was spent and is not in the ledger yet."""
        self.excess_usd = ZERO
        """What was drawn and is about to be given back."""
        self._lacking: dict[str, Decimal] = {}
        """By request, what could not be promised at once since the last entry. Whoever waits asks again after each one,
        so those who have left are forgotten without a word from them."""
        self.wanted_usd = ZERO
        """What could not be had at all: others may have it to spare."""
        self.told_usd = ZERO
        """What the last entry says of that."""
        self.used_usd = ZERO
        """What was promised since the last entry."""
        self.spent_usd = ZERO
        """What all processes have spent, as the ledger said last."""
        self.committed_usd = ZERO
        """The same, and what they have drawn."""
        self.is_read = False
        """Whether the ledger has been read at all."""
        self.order = 0
        """Counts the entries of this process, so that others see that it lives."""
        self.draft: Draft | None = None
        """An entry of which nobody knows yet whether it was made."""

    @property
    def total_usd(self) -> Decimal:
        """What was spent in this month, as far as is known here."""
        return self.spent_usd + self.settled_usd

    @property
    def short_usd(self) -> Decimal:
        """What was asked for since the last entry and could not be promised at once."""
        return sum(self._lacking.values(), ZERO)

    @property
    def free_usd(self) -> Decimal:
        """What can be promised at once."""
        return self.drawn_usd - self.settled_usd - self.reserved_usd - self.excess_usd

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing that the ledger would have to know."""
        known = self.drawn_usd, self.reserved_usd, self.settled_usd, self.excess_usd
        return self.draft is None and not any((*known, self.short_usd, self.wanted_usd, self.told_usd))

    def could_draw(self, amount: Decimal, ceiling: Decimal) -> bool:
        """Whether the budget has, as far as is known here, what *amount* lacks.

        What others wait for does not count: some may leave, and those for whom nothing is left are told so when all is
        drawn.
        """
        lacking = amount - max(self.free_usd, ZERO)
        return not self.is_read or self.committed_usd - self.excess_usd + lacking <= ceiling

    def reserve(self, amount: Decimal) -> None:
        """Promise *amount*."""
        self.reserved_usd += amount
        self.used_usd += amount

    def note_lacking(self, request_id: str, amount: Decimal) -> None:
        """Note that a request waits for *amount*: once, at however many backends and however often it asks."""
        self._lacking[request_id] = max(amount, self._lacking.get(request_id, ZERO))

    def note_served(self, request_id: str) -> None:
        """Note that a request has what it needs, if it has waited at all."""
        self._lacking.pop(request_id, None)

    def settle(self, reserved: Decimal, spent: Decimal) -> None:
        """Note that what was promised has cost *spent*."""
        self.reserved_usd -= reserved
        self.settled_usd += spent

    def set_aside(self, amount: Decimal) -> None:
        """Promise no more of *amount*, which is to be given back."""
        self.excess_usd += amount

    def write(self, drawn: Decimal, *, is_last: bool = False) -> Draft:
        """Begin an entry with all that was spent, which draws so much or gives so much back."""
        self.order += 1
        # What is given back cannot cover what was spent.
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
        """Do what *draft* says: it is in the ledger now."""
        self.draft = None
        self.settled_usd -= draft.settled
        self.drawn_usd += draft.drawn - draft.covered
        if draft.drawn < 0:
            self.excess_usd += draft.drawn
        # What was asked for meanwhile is for the next one.
        for request_id in draft.lacking:
            self.note_served(request_id)
        self.used_usd -= draft.used
        self.told_usd = draft.wanted
        if self.wanted_usd == draft.wanted:
            self.wanted_usd = ZERO

    def dropped(self) -> None:
        """Forget the entry that was begun: it was not made."""
        self.draft = None


def next_draw(book: Book, allowance: Decimal, ceiling: Decimal | None, *, others_want: bool) -> Decimal:
    """Return what to draw next; negative: what to give back, which must be set aside first.

    :param allowance: what to have ready beyond what was asked for.
    :param ceiling: what all may draw together; None: whatever they like.
    :param others_want: whether another process lacks what this one may have to spare.
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
