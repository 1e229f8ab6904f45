"""One request in the pipeline, with its candidates and the verdicts of the stages so far."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from math import isfinite
from types import MappingProxyType
from typing import Any, Final, Self

import msgspec
from msgspec.structs import force_setattr

from nexus.domain.backend import Backend
from nexus.domain.fleet import FleetSnapshot
from nexus.domain.model import Zone
from nexus.domain.request import Endpoint, Requirements


class Verdict(msgspec.Struct, frozen=True):
    """What one stage decided about one backend."""

    backend: str
    """Its name."""
    stage: str
    reason: str
    action: str = ""
    """What the client or the operator could do about it."""
    factor: float = 0.0
    """The factor of the backend's score; 0 for an exclusion."""
    code: str = "rejected_by_policy"
    """The error code, a key of :data:`nexus.error_codes.CODES`, when this leaves no backend."""
    context: Mapping[str, Any] | None = None
    """Facts for the client's error body in that case, such as ``{"required_tier": 3}``."""


_NOT_FOR_STAGES: Final[Any] = ()

_ZONES: Final[Mapping[str, Zone]] = {"restricted": "restricted", "local": "restricted", "open": "open", "cloud": "open"}


class RoutingIntent(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """One request on its way through the pipeline.

    A stage may :meth:`exclude`, :meth:`avoid` or :meth:`weigh` a candidate. It can never add one, restore one or
    revoke the verdict of another stage, so any order of stages leaves the same survivors.
    """

    request_id: str
    endpoint: Endpoint
    requirements: Requirements
    resolved_model: str
    """After aliases; of the fallback, when one is tried."""
    snapshot: FleetSnapshot
    survivors: dict[str, tuple[Backend, str]]
    """By name, each remaining backend with its own name for the model; changed only by :meth:`exclude`."""
    headers: Mapping[str, str]
    """The documented ``x-nexus-*`` hints that the client sent, lower case; no other headers."""
    policies: tuple[Mapping[str, Any], ...]
    """The decoded keys, by plugin, of each traffic policy that applies; see :meth:`policies_of`."""
    received_unix_s: float
    other_endpoints: tuple[str, ...] = ()
    """The names of the endpoints to which the request can be translated, best first, for backends that do not serve its
    own."""
    unserved: frozenset[tuple[str, str]] = frozenset()
    """Backends, by name, and endpoints that they have just refused this request at, as they do not serve them."""
    excluded: list[Verdict] = []
    avoided: list[Verdict] = []
    weights: list[Verdict] = []
    observed: list[Verdict] = []
    """The verdicts of stages that only observe."""
    skipped: list[str] = []
    """The names of stages that have failed and were skipped; written by the pipeline."""
    spent_s: list[float] = []
    """How long each stage took, in order; written by the pipeline."""

    @property
    def requested_model(self) -> str:
        """As the client sent it."""
        return self.requirements.model

    @property
    def received_at(self) -> datetime:
        """When the request arrived, UTC; stages need no other clock."""
        return datetime.fromtimestamp(self.received_unix_s, UTC)

    @property
    def candidates(self) -> set[str]:
        """The names of the remaining backends, including avoided ones."""
        return set(self.survivors)

    def __iter__(self) -> Iterator[Backend]:
        """Iterate over the candidates; they may be excluded during the iteration."""
        return iter([backend for backend, _ in self.survivors.values()])

    def __contains__(self, backend: Backend) -> bool:
        return backend.name in self.survivors

    def offers(self) -> list[tuple[Backend, str]]:
        """Return the candidates, each with its own name for the model."""
        return list(self.survivors.values())

    def candidates_in(self, *, zone: str) -> list[Backend]:
        """Return the candidates of *zone*: ``restricted`` (or ``local``), ``open`` (or ``cloud``)."""
        wanted = _ZONES[zone.lower()]
        return [backend for backend, model in self.survivors.values() if backend.zone_of(model) == wanted]

    def model_on(self, backend: Backend) -> str:
        """Return the name of the model at *backend*, a candidate."""
        return self.survivors[backend.name][1]

    def zone_of(self, backend: Backend) -> Zone:
        """Return the privacy zone of *backend*, a candidate, for this model."""
        return backend.zone_of(self.survivors[backend.name][1])

    def tier_of(self, backend: Backend) -> int:
        """Return how capable the model at *backend*, a candidate, is: 1 to 5."""
        return backend.tier_of(self.survivors[backend.name][1])

    def endpoint_at(self, backend: Backend) -> str | None:
        """Return the name of the endpoint at which *backend*, a candidate, is asked; None: it serves none of them.

        That of the request comes first, then those to which it can be translated; one that the backend has answered it
        does not support is the last choice.
        """
        served = [name for name in (self.endpoint.name, *self.other_endpoints) if name in backend.endpoints]
        if len(served) > 1 and (backend.unsupported or self.unserved):
            model = self.survivors[backend.name][1]
            lacks, lacked = backend.unsupported, self.unserved
            supported = (n for n in served if (n, model) not in lacks and (backend.name, n) not in lacked)
            return next(supported, served[0])
        return served[0] if served else None

    def is_translated_for(self, backend: Backend) -> bool:
        """Whether *backend* gets the request in another dialect than the client's."""
        return self.translated_to(backend) is not None

    def translated_to(self, backend: Backend) -> str | None:
        """Return the name of the endpoint to which the request is translated for *backend*; None: it is not."""
        asked_at = self.endpoint_at(backend)
        return None if asked_at == self.endpoint.name else asked_at

    def policies_of(self, plugin: str) -> tuple[Any, ...]:
        """Return the keys of *plugin* in each policy that applies; empty when none does. All apply at once.

        A fallback may have two: the policy of the model asked for, which applies to the whole chain, and its own.
        """
        return tuple([keys[plugin] for keys in self.policies if plugin in keys])

    def exclude(  # noqa: PLR0913 - most stages leave out the last three
        self,
        backend: Backend,
        *,
        stage: str,
        reason: str,
        action: str = "",
        code: str = "rejected_by_policy",
        context: Mapping[str, Any] | None = None,
    ) -> None:
        """Remove *backend* for good. Excluding it again only adds the reason.

        :param action: what the client or the operator could do about it.
        :param code: the client's error code when this leaves no backend.
        :param context: facts for the client's error body in that case.
        """
        survivors: Any = self.survivors
        if type(survivors) is MappingProxyType:
            survivors = dict(survivors)
            force_setattr(self, "survivors", survivors)
        survivors.pop(backend.name, None)
        self.excluded.append(Verdict(backend.name, stage, reason, action, 0.0, code, context))

    def avoid(self, backend: Backend, *, stage: str, reason: str, action: str = "") -> None:
        """Use *backend* only when no other is left."""
        self.avoided.append(Verdict(backend.name, stage, reason, action))

    def weigh(self, backend: Backend, factor: float, *, stage: str, reason: str) -> None:
        """Multiply the score of *backend* by *factor*, which is clamped to [0, 1].

        :raises ValueError: it is not finite.
        """
        if not 0.0 <= factor <= 1.0:
            factor = _clamped(factor)
        self.weights.append(Verdict(backend.name, stage, reason, "", factor))

    def reasons_for(self, backend: str) -> Iterable[Verdict]:
        """Return all verdicts against the backend of that name."""
        return (v for v in (*self.excluded, *self.avoided, *self.weights) if v.backend == backend)

    def shadow(self) -> Self:
        """Return a copy for one stage, with the remaining candidates and without the verdicts of other stages.

        The candidates are a view of those here until the stage excludes one of them: most stages exclude none.
        """
        survivors: Any = self.survivors
        if type(survivors) is not MappingProxyType:
            survivors = MappingProxyType(survivors)
        return type(self)(
            request_id=self.request_id,
            endpoint=self.endpoint,
            requirements=self.requirements,
            resolved_model=self.resolved_model,
            snapshot=self.snapshot,
            survivors=survivors,
            headers=self.headers,
            policies=self.policies,
            received_unix_s=self.received_unix_s,
            other_endpoints=self.other_endpoints,
            unserved=self.unserved,
            observed=_NOT_FOR_STAGES,
            skipped=_NOT_FOR_STAGES,
            spent_s=_NOT_FOR_STAGES,
        )


def _clamped(factor: float) -> float:
    if not isfinite(factor):
        raise ValueError(f"a backend cannot be weighed by {factor}")
    return min(1.0, max(0.0, factor))
