"""Books spending while the stage only observes: without holds, from the outcome of each exchange."""

from nexus.api import AttemptOutcome, Ending, ExchangeOutcome
from nexus_budget.budget import Budget
from nexus_budget.config import BudgetConfig
from nexus_budget.costs import Counted, may_have_cost
from nexus_budget.tokens import BYTES_PER_TOKEN


def account_for(outcome: ExchangeOutcome, config: BudgetConfig, budget: Budget) -> None:
    """Book the cost of the attempts of *outcome*."""
    for attempt in outcome.attempts:
        rate = budget.newest_stage.prices.last_rate(attempt.backend, attempt.model)
        if rate is None or rate.is_free or not may_have_cost(attempt):
            continue
        cost = rate.cost(*_tokens(attempt, outcome, config))
        budget.account.spend(cost, outcome.received_at)
        counted: Counted = "estimated" if attempt.usage is None else "reported"
        budget.counters.settled(attempt.backend, attempt.model, cost, counted)
        if not rate.is_known:
            budget.flag_assumed(attempt.backend, attempt.model)


def _tokens(attempt: AttemptOutcome, outcome: ExchangeOutcome, config: BudgetConfig) -> tuple[int, int]:
    if attempt.usage is not None:
        return attempt.usage.prompt_tokens, attempt.usage.completion_tokens
    completion = config.assumed_output_tokens if attempt.ending is Ending.FINISHED else 0
    return outcome.bytes_in // BYTES_PER_TOKEN, completion
