"""What one probe found."""

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from nexus.domain.kinds import BackendKind, ServerFacts
from nexus.domain.model import ModelFacts


class Success(msgspec.Struct, frozen=True, kw_only=True):
    """It is well, and this is the whole list of its models."""

    kind: BackendKind
    latency_ms: int
    models: Mapping[str, ModelFacts]
    server: ServerFacts = ServerFacts()


class SuccessWithParseError(msgspec.Struct, frozen=True, kw_only=True):
    """It is well, and its list of models could not be read: one odd release must not drain the fleet."""

    kind: BackendKind
    latency_ms: int
    error: str


class Cause(StrEnum):
    """What kept a backend from answering a probe well."""

    REFUSED = "refused"
    """Nothing listens there."""
    TIMEOUT = "timeout"
    LOADING = "loading"
    """It says that it is loading its model."""
    SHORTAGE = "shortage"
    """It was not asked: this process has no file descriptor left."""
    REPLACED = "replaced"
    """It announced itself, and its answers are those of another kind of server than was approved."""
    PERHAPS_REPLACED = "perhaps_replaced"
    """The same, when it was overloaded while it was asked."""
    OTHER = "other"


class Failure(msgspec.Struct, frozen=True):
    """It is not well, or could not be asked."""

    error: str
    cause: Cause = Cause.OTHER
    kind: BackendKind | None = None
    """None unless it is known and the backend has answered."""


ProbeResult = Success | SuccessWithParseError | Failure
