"""The stage that excludes backends that cannot answer: by endpoint, capabilities and context length."""

from collections.abc import Mapping
from typing import Any, Final

from nexus.domain.backend import Backend
from nexus.domain.request import Requirements
from nexus.routing.intent import RoutingIntent
from nexus.routing.stage.api import Fact, Priority, Reconciler

MAY_BE_TOO_LONG: Final = 0.1
"""The factor when an estimate exceeds the context: any backend with a longer context comes first, however busy."""
TRANSLATED: Final = 0.001
"""The factor of a backend that needs a translation: any that speaks the client's protocol comes first, however busy."""


class Analyze(Reconciler):
    """Excludes backends that certainly cannot answer; unknown facts and estimates never exclude one."""

    name = "analyze"
    priority = Priority.ANALYZE
    depends_on = frozenset[Fact]({"capabilities", "context"})

    def reconcile(self, intent: RoutingIntent) -> None:
        endpoint = intent.endpoint.name
        requirements = intent.requirements
        needed = needed_capabilities(requirements)
        for backend, model in intent.offers():
            asked_at = endpoint
            if endpoint not in backend.endpoints or backend.unsupported or intent.unserved:
                asked_at = self._judge_endpoint(intent, backend)
            if backend.unsupported and (asked_at, model) in backend.unsupported:
                reason = f"Backend has answered that it does not support {asked_at} with this model (HTTP 501)"
                intent.avoid(backend, stage=self.name, reason=reason)
            facts = backend.models.get(model)
            if requirements.refused_context or requirements.is_refused_unknown:
                self._exclude_short_context(intent, backend, None if facts is None else facts.context_length)
            if facts is None:
                continue
            if needed and (missing := [name for name in needed if getattr(facts, name) is False]):
                self._judge_capabilities(intent, backend, model, missing)
            context_length = facts.context_length
            if context_length is not None and requirements.context_tokens > context_length:
                self._judge_length(intent, backend, asked_at, context_length)

    def explain(self, intent: RoutingIntent) -> Mapping[str, Any]:
        return {
            "needed_tokens": intent.requirements.context_tokens,
            "certain_tokens": intent.requirements.certain_tokens,
            "context_lengths": {
                backend.name: facts.context_length if (facts := backend.models.get(model)) else None
                for backend, model in intent.offers()
            },
        }

    def _judge_endpoint(self, intent: RoutingIntent, backend: Backend) -> str:
        """Return the endpoint at which *backend* would be asked; exclude it if there is none."""
        asked_at = intent.endpoint_at(backend)
        if asked_at is None:
            exclude = self._exclude_unserved if backend.endpoints else self._exclude_unprobed
            exclude(intent, backend)
        if asked_at is None or asked_at == intent.endpoint.name:
            return intent.endpoint.name
        reason = f"It does not serve {intent.endpoint.name}: the request is translated to {asked_at}"
        intent.weigh(backend, TRANSLATED, stage=self.name, reason=reason)
        return asked_at

    def _exclude_unserved(self, intent: RoutingIntent, backend: Backend) -> None:
        intent.exclude(
            backend,
            stage=self.name,
            reason=f"Backend does not serve {intent.endpoint.name}",
            action="Call an endpoint that it serves, or use another model",
            code="protocol_not_supported",
        )

    def _exclude_unprobed(self, intent: RoutingIntent, backend: Backend) -> None:
        """Exclude a backend that has never answered a probe, with the code of an unhealthy one."""
        intent.exclude(
            backend,
            stage=self.name,
            reason="Backend has never answered, so what it serves is not known",
            action="Check that it runs and that its URL is right, or set its type in the configuration",
            code="no_healthy_backend",
        )

    def _judge_capabilities(self, intent: RoutingIntent, backend: Backend, model: str, missing: list[str]) -> None:
        """Exclude the backend if the operator denies the capability; avoid it if only its server does.

        A server may answer such a request all the same.
        """
        reason = f"Model '{model}' lacks {', '.join(missing)}"
        denied = [name for name in missing if name in backend.models[model].denied]
        if not denied:
            intent.avoid(backend, stage=self.name, reason=f"{reason}, its server says")
            return
        intent.exclude(
            backend,
            stage=self.name,
            reason=reason,
            action="Use a model that has it, or say in the configuration that this one does",
            code="capability_mismatch",
            context={"missing_capabilities": missing},
        )

    def _exclude_short_context(self, intent: RoutingIntent, backend: Backend, context_length: int | None) -> None:
        """Exclude a backend whose context is no longer than that of a backend that refused the prompt as too long."""
        refused = intent.requirements.refused_context
        if context_length is None:
            if not intent.requirements.is_refused_unknown:
                return
            reason = "Another backend whose context is not known has refused the prompt as too long"
        elif context_length <= refused:
            reason = f"Its context of {context_length} is no longer than the {refused} that were too short"
        else:
            return
        intent.exclude(
            backend,
            stage=self.name,
            reason=reason,
            action="Shorten the prompt, or use a model with a longer context",
            code="context_length_exceeded",
            context=None if context_length is None else {"context_length": context_length},
        )

    def _judge_length(self, intent: RoutingIntent, backend: Backend, asked_at: str, context_length: int) -> None:
        """Exclude a backend that will certainly refuse the request as too long, and weigh one that may."""
        requirements = intent.requirements
        is_strict = asked_at in backend.kind.refuses_beyond_context
        if is_strict and (tokens := requirements.certain_tokens) > context_length:
            intent.exclude(
                backend,
                stage=self.name,
                reason=f"At least {tokens} tokens exceed the context of {context_length}",
                action="Shorten the prompt, lower max_tokens, or use a model with a longer context",
                code="context_length_exceeded",
                context={"context_length": context_length},
            )
            return
        tokens = requirements.context_tokens if is_strict else requirements.prompt_tokens
        if tokens > context_length:
            reason = f"About {tokens} tokens may exceed the context of {context_length}"
            intent.weigh(backend, MAY_BE_TOO_LONG, stage=self.name, reason=reason)


def needed_capabilities(requirements: Requirements) -> list[str]:
    """Return the capabilities that the model must have, by the names of its facts."""
    needed: list[str] = []
    # Not a loop: this runs for every request, and most need none of them.
    if requirements.needs_vision:
        needed.append("vision")
    if requirements.needs_tools:
        needed.append("tools")
    if requirements.needs_json:
        needed.append("json_mode")
    if requirements.needs_embeddings:
        needed.append("embeddings")
    return needed
