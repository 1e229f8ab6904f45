"""The dearest price of all candidates: a limit that it keeps need not be compared with each of them."""

from collections.abc import Callable
from typing import Final

from nexus.api import Backend, RoutingIntent
from nexus_budget.prices import Rate

MAX_CACHED: Final = 1024
"""Models; clients choose the names."""


class DearestRates:
    """The highest price of each kind among the candidates of a request, cached for each model until they change."""

    def __init__(self, rate: Callable[[Backend, str], Rate]) -> None:
        self._rate = rate
        self._known: dict[str, tuple[list[tuple[Backend, str]], Rate | None]] = {}

    def of(self, intent: RoutingIntent) -> Rate | None:
        """Return a price that no candidate exceeds in any part; None without candidates."""
        offers = intent.offers()
        known = self._known.get(intent.resolved_model)
        if known is not None and known[0] == offers:
            return known[1]
        # Most backends share a few prices, each of which is one object.
        rates = {id(rate): rate for backend, model in offers for rate in (self._rate(backend, model),)}.values()
        dearest = None
        if rates:
            dearest = Rate(
                input_usd=max(rate.input_usd for rate in rates),
                output_usd=max(rate.output_usd for rate in rates),
                request_usd=max(rate.request_usd for rate in rates),
                source="configured",
                is_paid=any(rate.is_paid for rate in rates),
            )
        if len(self._known) >= MAX_CACHED:
            self._known.clear()
        self._known[intent.resolved_model] = offers, dearest
        return dearest
