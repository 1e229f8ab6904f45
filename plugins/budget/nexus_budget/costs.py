"""The cost of an attempt: estimated before it, and computed from its outcome after it."""

from decimal import Decimal
from typing import Final, Literal

import msgspec

from nexus.api import AttemptOutcome, Ending, Endpoint, Requirements, UpstreamFault
from nexus_budget.money import ZERO
from nexus_budget.prices import PriceBook, Rate
from nexus_budget.tokens import Basis, TextMeter

Counted = Literal["reported", "estimated", "nothing"] | Basis
"""How the tokens of an attempt were counted: by the backend, from the text, by estimate, or none at all."""

WITHOUT_ANSWER: Final = frozenset({"embeddings", "rerank"})
"""Capabilities of requests that are answered with numbers: only their prompt costs."""
WITHOUT_TOKENS: Final = frozenset({"audio", "images"})
"""Capabilities that are not counted in tokens, unless the backend reports some."""
FREE: Final = frozenset({"tokenize", "moderation", "keep"})

NOTHING_SENT: Final = frozenset(
    {UpstreamFault.REFUSED, UpstreamFault.CONNECT_TIMEOUT, UpstreamFault.TLS, UpstreamFault.STALE}
)
NOT_SEEN: Final = frozenset({Ending.CLIENT_LEFT, Ending.TIMED_OUT, Ending.SHUT_DOWN, Ending.NEXUS_FAILED})
"""Endings at which Nexus closed the connection although the backend may still have been working."""
UNANSWERED: Final = frozenset({UpstreamFault.FIRST_BYTE_TIMEOUT, "silent"})
"""Faults of a backend that did not answer in time, although it may still have been working."""


class Estimate(msgspec.Struct, frozen=True):
    """What a request may cost at one backend."""

    rate: Rate
    prompt_tokens: int
    completion_tokens: int
    cost_usd: Decimal
    is_streamed: bool
    expects_answer: bool = True
    """Whether the request asks the model for an answer."""

    @property
    def prompt_usd(self) -> Decimal:
        """The cost of the prompt alone."""
        return self.rate.cost(self.prompt_tokens, 0)


def estimate(
    rate: Rate, endpoint: Endpoint, requirements: Requirements, prices: PriceBook, *, assumed_output_tokens: int
) -> Estimate:
    """Return what a request may cost at *rate*, with an assumed length for an answer without a limit."""
    prompt = requirements.prompt_tokens + requirements.further_prompt_tokens
    completion = (requirements.max_tokens or assumed_output_tokens) * requirements.answers
    if endpoint.capability in WITHOUT_ANSWER or endpoint.capability in WITHOUT_TOKENS:
        completion = 0
    cost = rate.cost(prompt, completion)
    if endpoint.capability in FREE or not requirements.answers:
        cost = ZERO
    elif endpoint.capability in WITHOUT_TOKENS:
        cost += prices.flat_usd(rate) * requirements.answers - rate.request_usd
    return Estimate(rate, prompt, completion, cost, requirements.is_stream, bool(requirements.answers))


def tokens_of(requirements: Requirements, assumed_output_tokens: int) -> int:
    """Return the most tokens that a request may take, of its prompts and its answers together."""
    prompt = requirements.prompt_tokens + requirements.further_prompt_tokens
    return prompt + (requirements.max_tokens or assumed_output_tokens) * requirements.answers


def spent(outcome: AttemptOutcome, estimated: Estimate, meter: TextMeter) -> tuple[Decimal, Counted]:
    """Return the cost of an attempt, and how it was counted."""
    rate = estimated.rate
    if not may_have_cost(outcome):
        return ZERO, "nothing"
    if not (estimated.expects_answer or meter.has_text or (outcome.usage and outcome.usage.total_tokens)):
        return ZERO, "nothing"
    is_whole = outcome.ending is Ending.FINISHED
    if outcome.usage is not None and (outcome.usage.total_tokens or not meter.has_text):
        # Servers omit or zero what they did not count, for example a cached prompt.
        prompt, completion = outcome.usage.prompt_tokens or estimated.prompt_tokens, outcome.usage.completion_tokens
        if meter.has_text and not (is_whole and completion):
            # A truncated stream may have reported an earlier count.
            completion = max(completion, meter.tokens())
        return rate.cost(prompt, completion), "reported"
    if meter.has_text:
        return rate.cost(estimated.prompt_tokens, meter.tokens()), meter.basis
    if outcome.is_stream or (estimated.is_streamed and not is_whole):
        return min(estimated.prompt_usd, estimated.cost_usd), "estimated"
    is_unseen = outcome.ending in NOT_SEEN or outcome.fault in UNANSWERED
    if is_whole or is_unseen or outcome.status is not None:
        return estimated.cost_usd, "estimated"
    return min(estimated.prompt_usd, estimated.cost_usd), "estimated"


def may_have_cost(outcome: AttemptOutcome) -> bool:
    """Return whether the backend may have done work: the request was sent and no error came back."""
    if not outcome.is_sent or outcome.ending is Ending.REJECTED or outcome.fault in NOTHING_SENT:
        return False
    return outcome.status is None or outcome.status < 400
