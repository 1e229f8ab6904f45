"""The budget stage: excludes backends that cost too much, ranks paid ones lower, and reserves the money."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from nexus.api import Backend, Hold, Measure, Priority, Reconciler, Refusal, RoutingIntent
from nexus_budget.account import Shortfall
from nexus_budget.book import Book
from nexus_budget.budget import Budget
from nexus_budget.ceilings import Ceilings
from nexus_budget.config import BudgetConfig
from nexus_budget.costs import WITHOUT_TOKENS, Estimate, estimate, tokens_of
from nexus_budget.dearest import DearestRates
from nexus_budget.holds import HeadersHold, PaidHold, month_headers
from nexus_budget.prices import PriceBook, Rate
from nexus_budget.report import gauges, refusal_context, section
from nexus_budget.terms import Status, Terms

WAIT_OR_RAISE: Final = "Raise monthly_limit_usd or wait for the next month"
BLIND: Final = "The budget's ledger cannot be reached"
MEND: Final = "Mend the store; the log says what is wrong with it"
"""Clients must not see the path of a file."""
TRY_AGAIN: Final = "Try again in a moment, or let requests wait ([queue] enabled)"
SOFT_FACTOR: Final = 0.5
MAX_EXPLAINED: Final = 50
"""Backends in an explanation, which must stay short in a large fleet."""

Verdict = tuple[str, str, str]
"""A reason as one word for the metric, the reason as a sentence, and a suggestion."""


class BudgetReconciler(Reconciler):
    """Keeps the spending of the month, and the cost of each request, within their limits."""

    name = "budget"
    priority = Priority.BUDGET
    on_error = "reject"  # uncounted money must not be spent

    def __init__(self, config: BudgetConfig, budget: Budget, prices: PriceBook) -> None:
        self._config = config
        self._budget = budget
        self._rate = prices.rate
        self._dearest = DearestRates(prices.rate)
        self._ceilings = Ceilings()
        self.prices = prices
        self.on_store_failure = config.on_store_failure

    def reconcile(self, intent: RoutingIntent) -> None:
        terms = self._budget.terms(self._config)
        book = self._budget.account.book_at(intent.received_unix_s)
        status = terms.status(book.total_usd)
        judge = self._judge(intent, terms, book, status)
        if judge is None and status is Status.NORMAL:
            return
        context = refusal_context(book, terms) if judge is not None else None
        for backend, model in intent.offers():
            rate = self._rate(backend, model)
            if judge is not None and (verdict := judge(backend, rate)) is not None:
                kind, reason, action = verdict
                self._budget.counters.refusals[kind] += 1
                intent.exclude(backend, stage=self.name, reason=reason, action=action, context=context)
            elif status is not Status.NORMAL and rate.is_paid:
                intent.weigh(backend, SOFT_FACTOR, stage=self.name, reason="Monthly budget is past its soft limit")

    def is_idle(self, policies: Sequence[Mapping[str, Any]]) -> bool:
        config = self._config
        if self.is_observed:
            # Then it looks up the prices by which outcomes are counted.
            return False
        ceilings = (keys["budget"].max_cost_per_request for keys in policies if "budget" in keys)
        is_limited = config.monthly_limit_usd is not None or config.unpriced_models == "reject"
        return not is_limited and all(ceiling is None for ceiling in ceilings)

    def may_hold(self, backend: Backend, model: str) -> bool:
        # With a limit, free answers get headers with the state of the month, too.
        return self._config.monthly_limit_usd is not None or not self._rate(backend, model).is_free

    def reserve(self, intent: RoutingIntent, backend: Backend) -> Hold | Refusal | None:
        rate = self._rate(backend, intent.model_on(backend))
        terms = self._budget.terms(self._config)
        account = self._budget.account
        book = account.book_at(intent.received_unix_s)
        extra_headers = month_headers(terms, book.total_usd)
        if rate.is_free:
            book.note_served(intent.request_id)
            return HeadersHold(extra_headers) if extra_headers else None
        estimated = self._estimate(intent, rate)
        reserved = account.reserve(intent.request_id, estimated.cost_usd, intent.received_unix_s, terms)
        if isinstance(reserved, Shortfall):
            return self._refusal(reserved, estimated, book, terms)
        model = intent.model_on(backend)
        if not rate.is_known:
            self._budget.flag_assumed(backend.name, model)
        return PaidHold(self._budget, reserved, estimated, model=model, extra_headers=extra_headers)

    def would_refuse(self, intent: RoutingIntent, backend: Backend) -> Refusal | None:
        rate = self._rate(backend, intent.model_on(backend))
        if rate.is_free:
            return None
        estimated, terms = self._estimate(intent, rate), self._budget.terms(self._config)
        shortfall = self._budget.account.shortfall(estimated.cost_usd, intent.received_unix_s, terms)
        if shortfall is None or shortfall is Shortfall.DRAWING:
            return None
        return self._refusal(shortfall, estimated, self._budget.account.book_at(intent.received_unix_s), terms)

    def explain(self, intent: RoutingIntent) -> Mapping[str, Any]:
        terms = self._budget.terms(self._config)
        book = self._budget.account.book_at(intent.received_unix_s)
        offers = intent.offers()[:MAX_EXPLAINED]
        return {
            **refusal_context(book, terms),
            "status": terms.status(book.total_usd).value,
            "is_enforced": terms.is_enforced,
            "is_ledger_reachable": self._budget.ledger_health.is_good(),
            "tokens_counted_by": "heuristic",
            "backends": {backend.name: self._facts(intent, backend, model) for backend, model in offers},
        }

    def measures(self) -> Iterable[Measure]:
        yield from gauges(self._budget, self._config)
        yield from self._budget.counters.measures()

    def report(self) -> Mapping[str, Any]:
        if self._budget.terms(self._config).limit_usd is None:
            return {}
        return section(self._budget, self._config, self.prices.as_of)

    def _estimate(self, intent: RoutingIntent, rate: Rate) -> Estimate:
        longest = self._config.assumed_output_tokens
        return estimate(rate, intent.endpoint, intent.requirements, self.prices, assumed_output_tokens=longest)

    def _judge(
        self, intent: RoutingIntent, terms: Terms, book: Book, status: Status
    ) -> Callable[[Backend, Rate], Verdict | None] | None:
        """Return a function that says why a backend must be excluded; None if none must be."""
        ceiling = self._ceilings.lowest(intent) if intent.policies else None
        is_blind = terms.is_enforced and not self._budget.is_ledger_reachable() and terms.on_store_failure == "refuse"
        may_assume = self._config.unpriced_models == "assume"
        is_hard = status is Status.HARD
        is_only_capped = not is_blind and not is_hard and may_assume and not terms.is_observed
        if is_only_capped and (ceiling is None or self._all_keep(intent, ceiling)):
            return None

        def judge(backend: Backend, rate: Rate) -> Verdict | None:
            if is_hard and (verdict := _at_the_limit(backend, rate, terms)) is not None:
                return verdict
            if not rate.is_paid and rate.is_free:
                return None
            if not rate.is_known and not may_assume:
                return "unpriced", "Its price is not known", "Give it a price in [plugins.budget]"
            if is_blind and not rate.is_free:
                return "ledger_unreachable", BLIND, MEND
            return self._too_dear(intent, rate, ceiling) or self._observed(intent, rate, terms, book)

        return judge

    def _all_keep(self, intent: RoutingIntent, ceiling: Decimal) -> bool:
        """Whether the request certainly costs no more than *ceiling* at any candidate."""
        if intent.endpoint.capability in WITHOUT_TOKENS:
            # There, an assumed price for each request takes the place of one that is not known.
            return False
        dearest = self._dearest.of(intent)
        if dearest is None:
            return True
        # Mostly, whole numbers decide: the exact cost takes ten times as long.
        tokens = tokens_of(intent.requirements, self._config.assumed_output_tokens)
        return tokens <= dearest.covered_tokens(ceiling) or self._estimate(intent, dearest.rate).cost_usd <= ceiling

    def _too_dear(self, intent: RoutingIntent, rate: Rate, ceiling: Decimal | None) -> Verdict | None:
        if ceiling is None or rate.is_free:
            return None
        cost = self._estimate(intent, rate).cost_usd
        if cost <= ceiling:
            return None
        reason = f"Estimated cost {cost:.4f} USD exceeds {ceiling:f} USD per request allowed by policy"
        return "max_cost_per_request", reason, "Ask for a shorter answer (max_tokens), or another model"

    def _observed(self, intent: RoutingIntent, rate: Rate, terms: Terms, book: Book) -> Verdict | None:
        """Return what a stage that only observes would have refused in :meth:`reserve`."""
        if not terms.is_observed or terms.action == "warn" or terms.limit_usd is None or rate.is_free:
            return None
        if book.total_usd + self._estimate(intent, rate).cost_usd <= terms.limit_usd:
            return None
        return "exhausted", "The monthly budget does not cover this request", WAIT_OR_RAISE

    def _refusal(self, shortfall: Shortfall, estimated: Estimate, book: Book, terms: Terms) -> Refusal:
        if shortfall is Shortfall.DRAWING:
            return Refusal("Its money is being drawn from the budget", is_saturation=True, action=TRY_AGAIN)
        context = {**refusal_context(book, terms), "estimated_cost_usd": float(round(estimated.cost_usd, 6))}
        if shortfall is Shortfall.UNREACHABLE:
            self._budget.counters.refusals["ledger_unreachable"] += 1
            return Refusal(BLIND, action=MEND, context=context)
        self._budget.counters.refusals["exhausted"] += 1
        return Refusal("The monthly budget does not cover this request", action=WAIT_OR_RAISE, context=context)

    def _facts(self, intent: RoutingIntent, backend: Backend, model: str) -> Mapping[str, Any]:
        rate = self._rate(backend, model)
        estimated = self._estimate(intent, rate)
        return {
            "price": rate.source,
            "estimated_cost_usd": float(round(estimated.cost_usd, 6)),
            "prompt_tokens": estimated.prompt_tokens,
            "completion_tokens": estimated.completion_tokens,
        }


def _at_the_limit(backend: Backend, rate: Rate, terms: Terms) -> Verdict | None:
    if terms.action == "block_all":
        return "hard_limit", "Monthly budget hard limit reached; all agents blocked", WAIT_OR_RAISE
    if terms.action == "block_cloud" and rate.is_paid:
        reason = f"Monthly budget hard limit reached; cloud agent '{backend.name}' blocked (zone: {backend.zone})"
        return "hard_limit", reason, WAIT_OR_RAISE
    if not rate.is_known:
        # ``warn`` allows known costs above the limit, but not unknown ones.
        return "unpriced", "Monthly budget hard limit reached, and its price is not known", WAIT_OR_RAISE
    return None
