"""Writes numbers as the plain decimal text that the scripts add, so that their sums equal those of all other stores."""

from decimal import MAX_EMAX, MIN_EMIN, ROUND_FLOOR, Context, Decimal, Inexact, InvalidOperation
from typing import Final

MAX_ADJUSTED: Final = 61
"""Powers of ten above this cannot be in an exact sum: a total is less than 10 ** 61."""
STEP: Final = Decimal("1e-119")
"""The last decimal place of a number: the smallest exponent of 60 digits from 1e-60 on."""
_EXACT: Final = Context(prec=1000, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=[Inexact, InvalidOperation])
_FLOOR: Final = Context(prec=1000, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=[InvalidOperation], rounding=ROUND_FLOOR)
_ABOVE_ALL: Final = "1" + "0" * (MAX_ADJUSTED + 1)


def amount_text(amount: Decimal | int) -> str | None:
    """Return *amount* as plain text; None if no total that it is added to can be exact."""
    number = Decimal(amount)
    if not number:
        return "0"
    if number.adjusted() > MAX_ADJUSTED:
        return None
    if _exponent(number) < _exponent(STEP):
        try:
            number = _EXACT.quantize(number, STEP)
        except (Inexact, InvalidOperation):
            return None
    return f"{number:f}"


def limit_text(limit: Decimal | int) -> str:
    """Return *limit* as plain text that admits exactly the same totals."""
    number = Decimal(limit)
    if not number:
        return "0"
    if number.adjusted() > MAX_ADJUSTED:
        return _ABOVE_ALL if number > 0 else f"-{_ABOVE_ALL}"
    if _exponent(number) < _exponent(STEP):
        number = _FLOOR.quantize(number, STEP)
    return f"{number:f}"


def _exponent(number: Decimal) -> int:
    exponent = number.as_tuple().exponent
    assert isinstance(exponent, int)  # noqa: S101 - only finite numbers get here
    return exponent
