"""What a backend says of its models is not trusted: how many there may be, and what a name may hold."""

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec
import structlog

from nexus.domain.model import ModelFacts

MOST_MODELS: Final = 2_000
LONGEST_NAME: Final = 256
MAX_ALIASES: Final = 32
"""Of one model."""

log = structlog.get_logger("nexus.fleet")


def accepted_models(models: Iterable[ModelFacts], *, backend: str) -> Mapping[str, ModelFacts]:
    """Return *models* by name, the first of each; what cannot be believed is dropped with one warning."""
    accepted: dict[str, ModelFacts] = {}
    dropped = 0
    for facts in models:
        if not is_plain_name(facts.name) or len(accepted) >= MOST_MODELS:
            dropped += 1
        else:
            accepted.setdefault(facts.name, facts)
    if dropped:
        log.warning("models_dropped", backend=backend, dropped=dropped, kept=len(accepted), most=MOST_MODELS)
    return accepted


def with_plain_aliases(facts: ModelFacts) -> ModelFacts:
    """Return *facts* without those aliases that cannot be names, or that are too many."""
    if not facts.aliases:
        return facts
    plain = dict.fromkeys(alias for alias in facts.aliases if is_plain_name(alias) and alias != facts.name)
    return msgspec.structs.replace(facts, aliases=tuple(plain)[:MAX_ALIASES])


def is_plain_name(name: str) -> bool:
    """Whether *name* can go into headers, logs and labels: not empty, not endless, no control characters."""
    return 0 < len(name) <= LONGEST_NAME and name.isprintable()
