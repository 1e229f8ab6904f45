"""What one probe found."""

from collections.abc import Mapping

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


class Failure(msgspec.Struct, frozen=True):
    """It is not well, or could not be asked."""

    error: str


ProbeResult = Success | SuccessWithParseError | Failure
