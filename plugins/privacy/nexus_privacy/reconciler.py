"""The privacy stage: excludes every backend outside the restricted zone from a restricted request."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from nexus.api import Backend, Measure, Priority, Reconciler, RoutingIntent
from nexus_privacy.config import RESTRICTED, UNRESTRICTED, PrivacyConfig
from nexus_privacy.counters import RestrictionCounters, Source

HEADER: Final = "x-nexus-privacy"

REQUIRED: Final[Mapping[str, Any]] = {"privacy_zone_required": RESTRICTED}

DEMANDS: Final[Mapping[Source, str]] = {
    "policy": "Restricted policy for model '{model}'",
    "default": "Restricted default for model '{model}'",
    "header": "X-Nexus-Privacy of the client",
}
ACTIONS: Final[Mapping[Source, str]] = {
    "policy": "Use a backend of the restricted zone, or change the policy",
    "default": "Use a backend of the restricted zone, or write a policy for this model",
    "header": "Use a backend of the restricted zone, or leave X-Nexus-Privacy out",
}


class PrivacyReconciler(Reconciler):
    """Keeps restricted requests in the restricted zone. If the stage fails, the request is rejected."""

    name = "privacy"
    priority = Priority.PRIVACY
    on_error = "reject"
    depends_on = frozenset()

    def __init__(self, config: PrivacyConfig, counters: RestrictionCounters) -> None:
        self._config = config
        self._counters = counters

    def reconcile(self, intent: RoutingIntent) -> None:
        source = demanded_by(intent, self._config.default)
        if source is None:
            return
        for backend in intent:
            if objection := self._objection(intent, backend):
                self._exclude(intent, backend, source, objection)

    def is_idle(self, policies: Sequence[Mapping[str, Any]]) -> bool:
        asked = (keys["privacy"].privacy for keys in policies if "privacy" in keys)
        return self._config.default != RESTRICTED and RESTRICTED not in asked

    def may_count(self, intent: RoutingIntent) -> bool:
        return demanded_by(intent, self._config.default) is not None

    def count(self, intent: RoutingIntent) -> None:
        source = demanded_by(intent, self._config.default)
        if source is not None:
            self._counters.note(intent, source)

    def explain(self, intent: RoutingIntent) -> Mapping[str, Any]:
        source = demanded_by(intent, self._config.default)
        return {
            "privacy": UNRESTRICTED if source is None else RESTRICTED,
            "demanded_by": source,
            "zones": {backend.name: intent.zone_of(backend) for backend in intent},
        }

    def measures(self) -> Iterable[Measure]:
        return self._counters.measures()

    def _objection(self, intent: RoutingIntent, backend: Backend) -> str:
        """Return why *backend* must not get a restricted request; empty if it may."""
        zone = intent.zone_of(backend)
        if zone != RESTRICTED:
            return f"Agent privacy zone {zone.capitalize()}"
        if not self._config.trust_discovered and backend.discovery_source != "static":
            return "Agent that is not configured"
        return ""

    def _exclude(self, intent: RoutingIntent, backend: Backend, source: Source, objection: str) -> None:
        # Every policy applies to a request without a model, since it may be for any model.
        demand = DEMANDS[source].format(model=intent.requested_model or "*")
        intent.exclude(
            backend, stage=self.name, reason=f"{objection} violates {demand}", action=ACTIONS[source], context=REQUIRED
        )


def demanded_by(intent: RoutingIntent, default: str) -> Source | None:
    """Return what makes the request restricted; None if nothing does.

    A client can ask for more privacy than the operator, never for less. An unknown value of the header, including an
    empty one, counts as ``restricted``.
    """
    configured = [keys.privacy for keys in intent.policies_of("privacy")]
    if RESTRICTED in configured:
        return "policy"
    if default == RESTRICTED and not (configured and all(configured)):
        return "default"
    value = intent.headers.get(HEADER, UNRESTRICTED)
    return None if value.strip().lower() == UNRESTRICTED else "header"
