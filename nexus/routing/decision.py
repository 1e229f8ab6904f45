"""What routing answers: a backend with its slot reserved, the advice to wait, or a reason why not."""

from collections.abc import Mapping
from typing import Any

import msgspec

from nexus.domain.backend import Backend, Status
from nexus.routing.intent import Verdict
from nexus.routing.stage.api import Hold


class Ranked(msgspec.Struct, frozen=True, gc=False):
    """A survivor of all stages, and what speaks for it."""

    backend: Backend
    model: str
    """The name under which it is to be asked."""
    score: float
    is_avoided: bool = False
    """It is asked only when no other backend is left."""
    tie: float = 0.0
    """What told it from others of the same score, the lowest first."""
    in_flight: int = 0
    """Requests that it had under way when it was ranked, because the counter goes on."""
    load_points: float = 100.0
    """What that was worth, of 100."""
    doublings: float | None = None
    """How long the model was expected to take there, as the logarithm to base 2 of milliseconds; None when nothing is
    known of any candidate, or there is only one."""
    latency_points: float = 100.0
    """What that was worth, of 100."""

    @property
    def latency_ms(self) -> int | None:
        """How long the model was expected to take there."""
        return None if self.doublings is None else round(2.0**self.doublings)

    @property
    def is_last_resort(self) -> bool:
        """Whether it is asked only when neither a backend nor a fallback is left that is healthy."""
        return self.backend.status is not Status.HEALTHY

    def is_equal_to(self, other: "Ranked") -> bool:
        """Whether neither of the two is asked only when the other is not left."""
        return (self.is_last_resort, self.is_avoided) == (other.is_last_resort, other.is_avoided)


class Reserved(msgspec.Struct, frozen=True, kw_only=True):
    """This backend gets the request, and everything that the attempt needs is held already."""

    backend: Backend
    model: str
    """The name under which it is to be asked."""
    holds: tuple[Hold, ...]
    """To be settled with the outcome of the attempt; settling twice does nothing, and a failure is only logged.
    Their headers go into the answer's head."""
    resolved_model: str
    """After aliases, or the fallback that is used."""
    fallback_model: str | None
    """The name under which a fallback is asked; None when the model asked for is used."""
    route_reason: str
    """For the client's header: ``capability-match``, ``capacity-overflow``, ``privacy-requirement``, ``failover``,
    ``last-resort``."""
    reason: str
    """Why this one of the survivors, such as ``highest_score:gpu-1:98.00``, ``only_healthy_backend`` or
    ``last_resort:gpu-1:unhealthy``."""


class Saturated(msgspec.Struct, frozen=True):
    """Every backend that could answer cannot do so yet: wait for one of these, and ask again with a fresh snapshot."""

    backends: tuple[Backend, ...]
    """Best first."""
    resolved_model: str
    waits_for: tuple[Verdict, ...]
    """What each of them cannot give yet: a slot, or what a plugin's stage holds for an attempt."""
    reasons: tuple[Verdict, ...] = ()
    """Why the others of the model would not do."""


class Reject(msgspec.Struct, frozen=True):
    """Nobody may or can answer; *code* is a key of :data:`nexus.errors.STATUS_OF_CODE`."""

    code: str
    message: str
    reasons: tuple[Verdict, ...] = ()
    context: Mapping[str, Any] | None = None
    """What would have to change, for the client's error body."""
    retry_after_s: int | None = None
    param: str | None = None
    """The member of the request that is at fault; empty when none is, None where *code* says it."""


Decision = Reserved | Saturated | Reject
