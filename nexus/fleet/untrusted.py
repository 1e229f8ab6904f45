"""Limits the names and the number of models that a backend may list."""

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec
import structlog

from nexus.domain.model import ModelFacts

MAX_MODELS: Final = 2_000
MAX_NAME_LENGTH: Final = 256
MAX_ALIASES: Final = 32
"""Per model."""

log = structlog.get_logger("nexus.fleet")


def accepted_models(models: Iterable[ModelFacts], *, backend: str) -> Mapping[str, ModelFacts]:
    """Return *models* by name, the first of each name; drop invalid ones with one warning."""
    accepted: dict[str, ModelFacts] = {}
    dropped = 0
    for facts in models:
        if not is_plain_name(facts.name) or len(accepted) >= MAX_MODELS:
            dropped += 1
        else:
            accepted.setdefault(facts.name, facts)
    if dropped:
        log.warning("models_dropped", backend=backend, dropped=dropped, kept=len(accepted), most=MAX_MODELS)
    return accepted


def with_plain_aliases(facts: ModelFacts) -> ModelFacts:
    """Return *facts* without invalid aliases, and with at most ``MAX_ALIASES``."""
    if not facts.aliases:
        return facts
    plain = dict.fromkeys(alias for alias in facts.aliases if is_plain_name(alias) and alias != facts.name)
    return msgspec.structs.replace(facts, aliases=tuple(plain)[:MAX_ALIASES])


def is_plain_name(name: str) -> bool:
    """Whether *name* is safe in headers, logs and labels: not empty, not too long, without control characters."""
    return 0 < len(name) <= MAX_NAME_LENGTH and name.isprintable()
