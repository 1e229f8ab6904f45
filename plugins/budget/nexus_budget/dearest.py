"""The dearest price of all candidates: a limit that it keeps need not be compared with each of them."""

from collections.abc import Callable, Sequence
from decimal import Decimal
from math import inf
from typing import Final

from nexus.api import Backend, RoutingIntent
from nexus_budget.prices import Rate

MAX_CACHED: Final = 1024
"""Models; clients choose the names."""


class Dearest:
    """A price that no candidate exceeds in any part."""

    __slots__ = ("_ceiling", "_covered", "offers", "rate")

    def __init__(self, offers: Sequence[tuple[Backend, str]], rate: Rate) -> None:
        self.offers = offers
        self.rate = rate
        self._ceiling: Decimal | None = None
        self._covered = 0.0
        """What is certainly within that limit: mostly, all requests for a model have the same."""

    def covered_tokens(self, ceiling: Decimal) -> float:
        """Return how many tokens, of whichever kind, certainly cost no more than *ceiling*."""
        if ceiling is not self._ceiling:
            rate = self.rate
            each, left = max(rate.input_usd, rate.output_usd), ceiling - rate.request_usd
            # One token less, as costs are rounded up.
            self._covered = inf if not each and left >= 0 else float(left / (each or 1) - 1)
            self._ceiling = ceiling
        return self._covered


class DearestRates:
    """The highest price of each kind among the candidates of a request, cached for each model until they change."""

    def __init__(self, rate: Callable[[Backend, str], Rate]) -> None:
        self._rate = rate
        self._known: dict[str, Dearest] = {}

    def of(self, intent: RoutingIntent) -> Dearest | None:
        """Return the dearest price; None without candidates."""
        offers = intent.offers()
        if not offers:
            return None
        known = self._known.get(intent.resolved_model)
        if known is not None and (known.offers == offers or _are_alike(known.offers, offers)):
            known.offers = offers
            return known
        # Most backends share a few prices, each of which is one object.
        rates = {id(rate): rate for backend, model in offers for rate in (self._rate(backend, model),)}.values()
        dearest = Rate(
            input_usd=max(rate.input_usd for rate in rates),
            output_usd=max(rate.output_usd for rate in rates),
            request_usd=max(rate.request_usd for rate in rates),
            source="configured",
            is_paid=any(rate.is_paid for rate in rates),
        )
        if len(self._known) >= MAX_CACHED:
            self._known.clear()
        known = self._known[intent.resolved_model] = Dearest(offers, dearest)
        return known


def _are_alike(before: Sequence[tuple[Backend, str]], offers: Sequence[tuple[Backend, str]]) -> bool:
    """Whether probes have found nothing new of the candidates, so that their prices are the same."""
    return len(before) == len(offers) and all(
        backend.is_like(now) and model == model_now
        for (backend, model), (now, model_now) in zip(before, offers, strict=True)
    )
