"""Money is a Decimal number of US dollars, exact to a trillionth of a dollar, and never a float."""

from collections.abc import Mapping
from decimal import ROUND_CEILING, Context, Decimal
from typing import Final

ZERO: Final = Decimal(0)
STEP: Final = Decimal("1e-12")
"""The smallest amount: about a hundredth of the cost of one token of the cheapest model."""

TOKENS_PER_PRICE: Final = Decimal(1_000_000)
_EXACT: Final = Context(prec=50)


def rounded_up(amount: Decimal) -> Decimal:
    """Return *amount* rounded up to whole steps."""
    return amount.quantize(STEP, rounding=ROUND_CEILING, context=_EXACT)


def refuse_odd_amounts(amounts: Mapping[str, Decimal | None], *, minimum: Decimal = ZERO) -> None:
    """Raise ValueError if one of *amounts*, by config key, is invalid or below *minimum*."""
    for name, amount in amounts.items():
        if amount is None:
            continue
        if not amount.is_finite() or amount < minimum or amount > _MAX_USD:
            raise ValueError(f"`{name}` is {amount}; give an amount in USD from {minimum:f} to {_MAX_USD:f}")
        if amount != rounded_up(amount):
            raise ValueError(f"`{name}` is {amount}; give at most 12 decimal places")


_MAX_USD: Final = Decimal(1_000_000_000)
