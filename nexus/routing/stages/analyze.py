"""Who can answer at all: speaks the endpoint, has the capabilities, takes that much context."""

from collections.abc import Mapping
from typing import Any

from nexus.domain.backend import Backend
from nexus.domain.request import Requirements
from nexus.routing.intent import RoutingIntent
from nexus.routing.reconciler import Priority, Reconciler


class Analyze(Reconciler):
    """Excludes whoever surely cannot; what is unknown about a model never excludes it."""

    name = "analyze"
    priority = Priority.ANALYZE

    def reconcile(self, intent: RoutingIntent) -> None:
        endpoint = intent.endpoint.name
        requirements = intent.requirements
        needed = needed_capabilities(requirements)
        for backend, model in intent.offers():
            if endpoint not in backend.endpoints:
                exclude = self._exclude_silent if backend.endpoints else self._exclude_unheard
                exclude(intent, backend)
            facts = backend.models.get(model)
            if facts is None:
                continue
            if needed and (missing := [name for name in needed if getattr(facts, name) is False]):
                self._exclude_incapable(intent, backend, model, missing)
            if facts.context_length is not None:
                tokens = requirements.prompt_tokens if backend.kind.cuts_long_answers else requirements.context_tokens
                if tokens > facts.context_length:
                    self._exclude_short(intent, backend, tokens, facts.context_length)

    def explain(self, intent: RoutingIntent) -> Mapping[str, Any]:
        return {
            "needed_tokens": intent.requirements.context_tokens,
            "context_lengths": {
                backend.name: facts.context_length if (facts := backend.models.get(model)) else None
                for backend, model in intent.offers()
            },
        }

    def _exclude_silent(self, intent: RoutingIntent, backend: Backend) -> None:
        intent.exclude(
            backend,
            stage=self.name,
            reason=f"Backend does not serve {intent.endpoint.name}",
            action="Call an endpoint that it serves, or use another model",
            code="protocol_not_supported",
        )

    def _exclude_unheard(self, intent: RoutingIntent, backend: Backend) -> None:
        """Leave out who has never answered: that is a matter of health, and what it serves will show."""
        intent.exclude(
            backend,
            stage=self.name,
            reason="Backend has not answered yet: what it serves is not known",
            action="Wait for it to answer, or give its type in the configuration",
            code="no_healthy_backend",
        )

    def _exclude_incapable(self, intent: RoutingIntent, backend: Backend, model: str, missing: list[str]) -> None:
        intent.exclude(
            backend,
            stage=self.name,
            reason=f"Model '{model}' lacks {', '.join(missing)}",
            action="Use a model that has it, or say in the configuration that this one does",
            code="capability_mismatch",
            context={"missing_capabilities": missing},
        )

    def _exclude_short(self, intent: RoutingIntent, backend: Backend, tokens: int, context_length: int) -> None:
        intent.exclude(
            backend,
            stage=self.name,
            reason=f"About {tokens} tokens exceed the context of {context_length}",
            action="Shorten the prompt, lower max_tokens, or use a model with a longer context",
            code="context_length_exceeded",
            context={"context_length": context_length},
        )


def needed_capabilities(requirements: Requirements) -> list[str]:
    """Return the capabilities that the model must have, by the names of the facts that tell of them."""
    needed: list[str] = []
    # Written out, because every request comes by here and most need none of them.
    if requirements.needs_vision:
        needed.append("vision")
    if requirements.needs_tools:
        needed.append("tools")
    if requirements.needs_json:
        needed.append("json_mode")
    if requirements.needs_embeddings:
        needed.append("embeddings")
    return needed
