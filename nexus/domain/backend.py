"""A backend: frozen, but for the live counters in its load."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, Literal

import msgspec

from nexus.domain.backend_load import BackendLoad
from nexus.domain.kinds import BackendKind
from nexus.domain.model import ModelFacts, Zone


class Status(StrEnum):
    """Whether a backend gets requests: a healthy one does, a draining one does not, any other only as a last resort."""

    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    UNKNOWN = "unknown"
    DRAINING = "draining"
    LOADING = "loading"
    """Its answer says that it is loading its model."""


class Breaker(StrEnum):
    """A circuit breaker, driven by recent traffic: closed admits all requests, half open one at a time."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


SEVERITY: Final = {Breaker.CLOSED: 0, Breaker.HALF_OPEN: 1, Breaker.OPEN: 2}
"""Higher is worse."""


AnyModel = Literal["always", "alone", "never"]


class Backend(msgspec.Struct, frozen=True, kw_only=True):
    """One backend at one instant."""

    id: str
    """Stable across restarts, because it is made from the name."""
    name: str
    url: str
    """Normalised origin, with a base path if it has one, never with a trailing slash or ``/v1``."""
    kind: BackendKind
    zone: Zone = "restricted"
    tier: int = 1
    priority: int = 50
    """Lower is preferred."""
    share: float = 1.0
    """Its part of the work, in proportion to other backends that could do it as well; more than 0."""
    endpoints: frozenset[str] = frozenset()
    """Names of the endpoints that it speaks natively."""
    max_in_flight: int = 64
    """Requests that are sent to it at once; further ones are queued."""
    is_limited: bool = False
    """Whether ``max_in_flight`` is configured, and not the default of its kind."""
    slots: int | None = None
    """How many of them it works on at once, as it reports or as is usual for its kind; the others wait at the backend.
    None: all, as far as is known."""
    max_loaded_models: int | None = None
    """How many models it keeps in memory at once, if configured; None: as it reports, if it does."""
    slots_are_reported: bool = False
    """Whether it reports ``slots`` itself; otherwise they are usual for its kind."""
    retry_unsafe: bool = True
    """Whether a request that this backend may have begun to work on may be sent to another one."""
    status: Status = Status.UNKNOWN
    breaker: Breaker = Breaker.CLOSED
    """A summary: the server's breaker or, if every recently used model fails, the best of theirs. Routing uses
    :meth:`breaker_of`."""
    server_breaker: Breaker | None = None
    """The breaker of the server as a whole, driven by connections; None: the same as ``breaker``."""
    model_breakers: Mapping[str, Breaker] = {}
    """The breakers that are not closed, by the backend's own name for the model."""
    is_cooling: bool = False
    """A summary: whether a Retry-After is in force for every recently used model. Routing uses
    :meth:`is_cooling_for`."""
    cooling_models: frozenset[str] = frozenset()
    """The models, by the backend's own names, for which a Retry-After is in force."""
    misconfigured: str | None = None
    """Why the operator must act: the backend refused its key or the account behind it. None: nothing is known to be
    wrong."""
    is_busy: bool = False
    """Whether it left the last probe unanswered while requests were running there."""
    is_refusing: bool = False
    """Whether nothing was listening there when it was last tried."""
    is_replaced: bool = False
    """Whether it announced itself, and now answers as another kind of server than was approved."""
    unsupported: frozenset[tuple[str, str]] = frozenset()
    """Endpoints, each with the backend's own name for a model, that it has refused as not supported (501)."""
    models: Mapping[str, ModelFacts] = {}
    """By the backend's own name."""
    any_model: AnyModel = "never"
    """Whether it accepts a model that it does not list: ``always``, as configured; ``alone``, if it is the whole fleet,
    because it has one model and ignores the name; or ``never``."""
    spellings: Mapping[str, str] = {}
    """The backend's own name by each other name for the model: ``llama3:latest`` by ``llama3``. Keys are lower case
    where letter case does not count."""
    discovery_source: str = "static"
    """``static`` if it is configured, ``api`` if it was added at run time, else the name of its discoverer, such as
    ``local``."""
    version: str | None = None
    last_check_at: float | None = None
    """Unix seconds of the last probe, None before the first."""
    last_error: str | None = None
    status_since: float | None = None
    load: BackendLoad

    def facts(self, model: str) -> ModelFacts | None:
        """Return what is known of *model* on this backend, None when the backend does not have it."""
        return self.models.get(self.own_name(model))

    def zone_of(self, model: str) -> Zone:
        """Return the zone to which a request for *model*, by the backend's own name, sends its data."""
        facts = self.models.get(model)
        if facts is None and not model and any(other.zone == "open" for other in self.models.values()):
            # A request that names no model may be answered by any of them.
            return "open"
        return self.zone if facts is None or facts.zone is None else facts.zone

    def tier_of(self, model: str) -> int:
        """Return how capable *model*, by the backend's own name, is: 1 to 5."""
        facts = self.models.get(model)
        return self.tier if facts is None or facts.tier is None else facts.tier

    def is_like(self, other: "Backend") -> bool:
        """Whether *other* differs at most in the time of the last check: most probes find nothing new."""
        return self is other or msgspec.structs.replace(self, last_check_at=other.last_check_at) == other

    @property
    def may_be_asked(self) -> bool:
        """Whether it can be sent requests, if only as a last resort: not if it drains, nothing listens at its address,
        or another server does.
        """
        is_out = self.status is Status.DRAINING or self.is_refusing or self.is_replaced
        return self.status is Status.HEALTHY or not is_out

    @property
    def own_breaker(self) -> Breaker:
        """The breaker of the server as a whole."""
        return self.breaker if self.server_breaker is None else self.server_breaker

    @property
    def is_troubled(self) -> bool:
        """Whether a breaker or a Retry-After speaks against it for at least one model."""
        return bool(self.breaker is not Breaker.CLOSED or self.model_breakers or self.is_cooling or self.cooling_models)

    def breaker_of(self, model: str) -> Breaker:
        """Return the worse of the server's breaker and that of *model*, by the backend's own name."""
        return max(self.own_breaker, self.model_breakers.get(model, Breaker.CLOSED), key=SEVERITY.__getitem__)

    def is_cooling_for(self, model: str) -> bool:
        """Return whether a Retry-After is in force for *model*, by the backend's own name."""
        return model in self.cooling_models if self.cooling_models else self.is_cooling

    def name_for_any(self, model: str) -> str:
        """Return the name to ask this backend for *model*, which it accepts and does not list."""
        return next(iter(self.models)) if self.any_model == "alone" and len(self.models) == 1 else model

    def own_name(self, model: str) -> str:
        """Return the backend's own name for *model*."""
        if model in self.models:
            return model
        if self.kind.default_tag is None:
            return self.spellings.get(model, model)
        lower = model.lower()
        return lower if lower in self.models else self.spellings.get(lower, model)
