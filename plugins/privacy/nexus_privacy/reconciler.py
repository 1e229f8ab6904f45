"""The privacy stage: a restricted request is left with backends of the restricted zone, and with nobody else."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from nexus.api import Backend, Measure, Priority, Reconciler, RoutingIntent
from nexus_privacy.config import RESTRICTED, UNRESTRICTED, PrivacyConfig
from nexus_privacy.tally import Source, Tally

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
    """Excludes whoever would carry a restricted request out of the house. When it fails, the request is rejected."""

    name = "privacy"
    priority = Priority.PRIVACY
    on_error = "reject"

    def __init__(self, config: PrivacyConfig, tally: Tally) -> None:
        self._config = config
        self._tally = tally

    def reconcile(self, intent: RoutingIntent) -> None:
        source = demanded_by(intent, self._config.default)
        if source is None:
            return
        excluded = []
        for backend in intent:
            if objection := self._objection(intent, backend):
                self._exclude(intent, backend, source, objection)
                excluded.append(backend.name)
        self._tally.note(intent, source, excluded)

    def explain(self, intent: RoutingIntent) -> Mapping[str, Any]:
        source = demanded_by(intent, self._config.default)
        return {
            "privacy": UNRESTRICTED if source is None else RESTRICTED,
            "demanded_by": source,
            "zones": {backend.name: intent.zone_of(backend) for backend in intent},
        }

    def measures(self) -> Iterable[Measure]:
        return self._tally.measures()

    def _objection(self, intent: RoutingIntent, backend: Backend) -> str:
        """Return what of *backend* speaks against sending it a restricted request; empty when nothing does."""
        zone = intent.zone_of(backend)
        if zone != RESTRICTED:
            return f"Agent privacy zone {zone.capitalize()}"
        if not self._config.trust_discovered and backend.discovery_source != "static":
            return "Agent that nobody configured"
        return ""

    def _exclude(self, intent: RoutingIntent, backend: Backend, source: Source, objection: str) -> None:
        # A request that names no model may be about any: every policy holds for it.
        demand = DEMANDS[source].format(model=intent.requested_model or "*")
        intent.exclude(
            backend, stage=self.name, reason=f"{objection} violates {demand}", action=ACTIONS[source], context=REQUIRED
        )


def demanded_by(intent: RoutingIntent, default: str) -> Source | None:
    """Return who asks for privacy; None when nobody does.

    A client can ask for more than the operator and never for less. A word that is not known, the empty one as well,
    comes from somebody who cares: it counts as ``restricted``.
    """
    said = [keys.privacy for keys in intent.policies_of("privacy")]
    if RESTRICTED in said:
        return "policy"
    if default == RESTRICTED and not (said and all(said)):
        return "default"
    word = intent.headers.get(HEADER, UNRESTRICTED)
    return None if word.strip().lower() == UNRESTRICTED else "header"
