"""The possible results of routing: a reserved backend, a queue to wait in, or a rejection."""

from collections.abc import Mapping
from typing import Any

import msgspec

from nexus.domain.backend import Backend
from nexus.routing.intent import Verdict
from nexus.routing.stage.api import Hold


class Reserved(msgspec.Struct, frozen=True, kw_only=True):
    """This backend gets the request, and all that the attempt needs is held."""

    backend: Backend
    model: str
    """The backend's own name for the model."""
    holds: tuple[Hold, ...]
    """To be settled with the outcome of the attempt; settling again does nothing, and a failure is only logged.
    Their headers go into the head of the answer."""
    resolved_model: str
    """After aliases; of the fallback, when one is used."""
    fallback_model: str | None
    """The backend's own name for the fallback; None when the model asked for is used."""
    route_reason: str
    """For the client's header: ``capability-match``, ``capacity-overflow``, ``privacy-requirement``, ``failover``,
    ``last-resort``."""
    translated_to: str | None = None
    """The name of the endpoint to which the request is translated; None: the backend serves that of the client."""
    reason: str
    """Why this candidate was chosen, such as ``highest_score:gpu-1:98.00``, ``only_healthy_backend`` or
    ``last_resort:gpu-1:unhealthy``."""


class Saturated(msgspec.Struct, frozen=True):
    """Every backend that could answer is busy: wait for one of these, and search again with a fresh snapshot."""

    backends: tuple[Backend, ...]
    """Best first."""
    resolved_model: str
    waits_for: tuple[Verdict, ...]
    """What each of them lacks: a free slot, or something that a plugin's stage holds for an attempt."""
    reasons: tuple[Verdict, ...] = ()
    """Why other backends with the model were excluded."""
    is_preference: bool = False
    """Whether waiting is only better for at least one of them, which takes a request that may not wait."""
    retry_in_s: float | None = None
    """After how long to search again even if no slot becomes free; None: only then."""


class Reject(msgspec.Struct, frozen=True):
    """No backend may or can answer; *code* is a key of :data:`nexus.error_codes.CODES`."""

    code: str
    message: str
    reasons: tuple[Verdict, ...] = ()
    context: Mapping[str, Any] | None = None
    """Facts for the client's error body: what would have to change."""
    retry_after_s: int | None = None
    param: str | None = None
    """The parameter of the request that is at fault; empty when none is, None where *code* implies it."""


Decision = Reserved | Saturated | Reject
