"""Answers by an estimate what no backend can count: the tokens of a request."""

from typing import TYPE_CHECKING, Final

from nexus.errors import RequestError
from nexus.translation.token_counts import estimated_answer

if TYPE_CHECKING:
    from nexus.proxy.exchange.failover import Failover

COUNTING: Final = "anthropic.count_tokens"
ESTIMATED_LINE: Final = b"X-Nexus-Estimated: tokens\r\n"

_UNCOUNTED: Final = frozenset({"protocol_not_supported", "not_translatable"})
"""The codes of errors because of which no backend could be asked, though some have the model."""


def estimated_count(failover: "Failover | None", exc: RequestError) -> bytes | None:
    """Return the answer to a request for a count that ends with *exc*; None if it is another one, or must fail."""
    if exc.code not in _UNCOUNTED or failover is None or failover.request.endpoint.name != COUNTING:
        return None
    if not failover.settings.config.translation.enabled:
        return None
    return estimated_answer(failover.body, failover.requirements.prompt_tokens)
