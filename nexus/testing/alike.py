"""Makes pairs of requests that differ in all but what a stage says that its verdicts depend on."""

from typing import Final

from msgspec.structs import replace

from nexus.domain.request import Requirements
from nexus.routing.intent import RoutingIntent
from nexus.routing.stage.api import Fact
from nexus.testing.builders import make_backend, make_fleet

CAPABILITIES: Final = ("needs_vision", "needs_tools", "needs_json", "needs_embeddings")
MAX_TOKENS: Final = 9000
"""Of a prompt, where no context is known."""
LATER_S: Final = 40 * 86_400.0
"""From one request to another one that is judged alike."""


def without_hints(intent: RoutingIntent) -> RoutingIntent:
    """Return *intent* as if the client had sent no hints."""
    return replace(intent, headers={})


def without_marks(intent: RoutingIntent) -> RoutingIntent:
    """Return *intent* as if its prompt and its conversation could not be recognised."""
    return replace(intent, requirements=replace(intent.requirements, prompt_blocks=(), conversation=0))


def alike(intent: RoutingIntent, other: Requirements, facts: frozenset[Fact]) -> tuple[RoutingIntent, RoutingIntent]:
    """Return *intent* and another one that differs in all but *facts*, and what all requests for a model share."""
    wanted = intent.requirements
    other = replace(other, model=wanted.model)
    if "capabilities" in facts:
        other = replace(other, **{name: getattr(wanted, name) for name in CAPABILITIES})
    if "stream" in facts:
        other = replace(other, is_stream=wanted.is_stream)
    if "context" in facts:
        known = (backend.models.get(model) for backend, model in intent.offers())
        shortest = min((found.context_length or MAX_TOKENS for found in known if found), default=MAX_TOKENS)
        wanted = replace(wanted, prompt_tokens=min(wanted.prompt_tokens, shortest), max_tokens=None)
        other = replace(other, prompt_tokens=0, max_tokens=min(other.max_tokens or 1, shortest))
    later = intent.received_unix_s + LATER_S
    # Probes that have found nothing new, and a server that has nothing to do with it.
    probed = [replace(backend, last_check_at=later) for backend in intent.snapshot.backends]
    survivors = {backend.name: (backend, intent.survivors[backend.name][1]) for backend in probed if backend in intent}
    another = replace(
        intent.shadow(),
        request_id="another",
        requirements=other,
        received_unix_s=later,
        snapshot=make_fleet(*probed, make_backend("bystander", models=())),
        survivors=survivors,
    )
    return replace(intent, requirements=wanted), another
