"""Money is a Decimal number of US dollars, exact to a trillionth of one, and never a float."""

from collections.abc import Mapping
from decimal import ROUND_CEILING, Context, Decimal
from typing import Final

ZERO: Final = Decimal(0)
STEP: Final = Decimal("1e-12")
"""The smallest amount there is: what one token of the cheapest model costs has a hundred of them."""

TOKENS_PER_PRICE: Final = Decimal(1_000_000)
_EXACT: Final = Context(prec=50)


def rounded_up(amount: Decimal) -> Decimal:
    """Return *amount* in whole steps, a broken one counted whole."""
    return amount.quantize(STEP, rounding=ROUND_CEILING, context=_EXACT)


def refuse_odd_amounts(amounts: Mapping[str, Decimal | None], *, least: Decimal = ZERO) -> None:
    """Raise ValueError when one of *amounts*, by the name of its key, is no amount or below *least*."""
    for name, amount in amounts.items():
        if amount is None:
            continue
        if not amount.is_finite() or amount < least or amount > _MOST:
            raise ValueError(f"`{name}` is {amount}; give an amount in USD from {least:f} to {_MOST:f}")
        if amount != rounded_up(amount):
            raise ValueError(f"`{name}` is {amount}; give at most 12 decimal places")


_MOST: Final = Decimal(1_000_000_000)
