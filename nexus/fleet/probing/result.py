"""What one probe found."""

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from nexus.domain.kinds import BackendKind, ServerFacts
from nexus.domain.model import ModelFacts


class Success(msgspec.Struct, frozen=True, kw_only=True):
    """The backend is healthy, and this is the complete list of its models."""

    kind: BackendKind
    latency_ms: int
    models: Mapping[str, ModelFacts]
    server: ServerFacts = ServerFacts()


class SuccessWithParseError(msgspec.Struct, frozen=True, kw_only=True):
    """The backend is healthy, but its list of models cannot be read: an unusual release must not drain the fleet."""

    kind: BackendKind
    latency_ms: int
    error: str


class Cause(StrEnum):
    """Why a probe failed."""

    REFUSED = "refused"
    """Nothing listens there."""
    TIMEOUT = "timeout"
    LOADING = "loading"
    """The server reports that it is loading its model."""
    SHORTAGE = "shortage"
    """No request was sent: this process has no file descriptor left."""
    REPLACED = "replaced"
    """A server that announced itself is of another kind than the approved one."""
    PERHAPS_REPLACED = "perhaps_replaced"
    """The same, but it was overloaded while its kind was detected."""
    OTHER = "other"


class Failure(msgspec.Struct, frozen=True):
    """The backend is not healthy, or the probe could not be sent."""

    error: str
    cause: Cause = Cause.OTHER
    kind: BackendKind | None = None
    """None unless it is known and the backend has responded."""


ProbeResult = Success | SuccessWithParseError | Failure
