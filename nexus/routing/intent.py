"""What one request asks of the fleet, and what the stages have said about it so far."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from math import isfinite
from typing import Any, Final, Self

import msgspec

from nexus.domain.backend import Backend
from nexus.domain.fleet import FleetSnapshot
from nexus.domain.model import Zone
from nexus.domain.request import Endpoint, Requirements


class Verdict(msgspec.Struct, frozen=True):
    """One thing that one stage said about one backend."""

    backend: str
    """Its name."""
    stage: str
    reason: str
    action: str = ""
    """What the client or the operator could do about it."""
    factor: float = 0.0
    """What the backend's score is multiplied by; 0 for an exclusion."""
    code: str = "rejected_by_policy"
    """The error code, a key of :data:`nexus.errors.STATUS_OF_CODE`, when this is why nobody is left."""
    context: Mapping[str, Any] | None = None
    """Facts for the client's error body in that case, such as ``{"required_tier": 3}``."""


_NOT_FOR_STAGES: Final[Any] = ()

_ZONES: Final[Mapping[str, Zone]] = {"restricted": "restricted", "local": "restricted", "open": "open", "cloud": "open"}


class RoutingIntent(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """One request on its way through the pipeline.

    A stage may :meth:`exclude`, :meth:`avoid` or :meth:`weigh` a candidate. It can never add one, restore one or
    take back what another stage said, so any order of stages leaves the same survivors.
    """

    request_id: str
    endpoint: Endpoint
    requirements: Requirements
    resolved_model: str
    """After aliases, or the fallback that is being tried."""
    snapshot: FleetSnapshot
    survivors: dict[str, tuple[Backend, str]]
    """By name, each backend that is still possible, and the name under which it would be asked; changed by
    :meth:`exclude` alone."""
    headers: Mapping[str, str]
    """The documented ``x-nexus-*`` hints that the client sent, lower case; nothing else of its headers."""
    policies: tuple[Mapping[str, Any], ...]
    """Of each traffic policy that applies, the decoded keys by plugin; see :meth:`policies_of`."""
    received_unix_s: float
    excluded: list[Verdict] = []
    avoided: list[Verdict] = []
    weights: list[Verdict] = []
    observed: list[Verdict] = []
    """What stages that only observe would have said."""
    spent_s: list[float] = []
    """The time that each stage took, in their order; the pipeline writes it, for whoever wants to know later."""

    @property
    def requested_model(self) -> str:
        """As the client sent it."""
        return self.requirements.model

    @property
    def received_at(self) -> datetime:
        """When the request arrived, UTC; the only clock that a stage needs."""
        return datetime.fromtimestamp(self.received_unix_s, UTC)

    @property
    def candidates(self) -> set[str]:
        """The names of the backends that are still possible, avoided ones included."""
        return set(self.survivors)

    def __iter__(self) -> Iterator[Backend]:
        """Iterate over the candidates; excluding one meanwhile is allowed."""
        return iter([backend for backend, _ in self.survivors.values()])

    def __contains__(self, backend: Backend) -> bool:
        return backend.name in self.survivors

    def offers(self) -> list[tuple[Backend, str]]:
        """Return the candidates, each with the name under which it would be asked."""
        return list(self.survivors.values())

    def candidates_in(self, *, zone: str) -> list[Backend]:
        """Return the candidates of *zone*: ``restricted`` (or ``local``), ``open`` (or ``cloud``)."""
        wanted = _ZONES[zone.lower()]
        return [backend for backend, model in self.survivors.values() if backend.zone_of(model) == wanted]

    def model_on(self, backend: Backend) -> str:
        """Return the name under which *backend*, a candidate, would be asked."""
        return self.survivors[backend.name][1]

    def zone_of(self, backend: Backend) -> Zone:
        """Return where the data would go if *backend*, a candidate, were asked."""
        return backend.zone_of(self.survivors[backend.name][1])

    def tier_of(self, backend: Backend) -> int:
        """Return how capable the model is that *backend*, a candidate, would be asked for: 1 to 5."""
        return backend.tier_of(self.survivors[backend.name][1])

    def policies_of(self, plugin: str) -> tuple[Any, ...]:
        """Return the keys that *plugin* owns in each policy that applies; empty when none does. All hold at once.

        There are two when a fallback is tried: the policy of the name asked for sticks to the whole chain, and the
        fallback's own is not lifted by it.
        """
        return tuple([keys[plugin] for keys in self.policies if plugin in keys])

    def exclude(  # noqa: PLR0913 - one exclusion, whose last three parts most stages leave out
        self,
        backend: Backend,
        *,
        stage: str,
        reason: str,
        action: str = "",
        code: str = "rejected_by_policy",
        context: Mapping[str, Any] | None = None,
    ) -> None:
        """Take *backend* out for good. Saying it twice, or of one who is out already, only adds the reason.

        :param action: what the client or the operator could do about it.
        :param code: the client's error code when this is why nobody is left.
        :param context: facts for the client's error body in that case.
        """
        self.survivors.pop(backend.name, None)
        self.excluded.append(Verdict(backend.name, stage, reason, action, 0.0, code, context))

    def avoid(self, backend: Backend, *, stage: str, reason: str, action: str = "") -> None:
        """Keep *backend* for the case that nobody else is left."""
        self.avoided.append(Verdict(backend.name, stage, reason, action))

    def weigh(self, backend: Backend, factor: float, *, stage: str, reason: str) -> None:
        """Multiply the score of *backend* by *factor*, which is clamped to [0, 1].

        :raises ValueError: it is no finite number.
        """
        if not 0.0 <= factor <= 1.0:
            factor = _clamped(factor)
        self.weights.append(Verdict(backend.name, stage, reason, "", factor))

    def reasons_for(self, backend: str) -> Iterable[Verdict]:
        """Return all that was said against the backend of that name."""
        return (v for v in (*self.excluded, *self.avoided, *self.weights) if v.backend == backend)

    def shadow(self) -> Self:
        """Return an intent on which one stage can act: it sees what is left, and nothing that others said."""
        return type(self)(
            request_id=self.request_id,
            endpoint=self.endpoint,
            requirements=self.requirements,
            resolved_model=self.resolved_model,
            snapshot=self.snapshot,
            survivors=self.survivors.copy(),
            headers=self.headers,
            policies=self.policies,
            received_unix_s=self.received_unix_s,
            observed=_NOT_FOR_STAGES,
            spent_s=_NOT_FOR_STAGES,
        )


def _clamped(factor: float) -> float:
    if not isfinite(factor):
        raise ValueError(f"a backend cannot be weighed by {factor}")
    return min(1.0, max(0.0, factor))
