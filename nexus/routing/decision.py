"""What the pipeline answers: Route, Queue or Reject."""

from collections.abc import Mapping
from typing import Any

import msgspec

from nexus.domain.backend import Backend
from nexus.routing.intent import Verdict


class Ranked(msgspec.Struct, frozen=True):
    """A survivor, with what speaks for it."""

    backend: Backend
    model: str
    """The name under which it is to be asked."""
    score: float
    reason: str
    """Such as ``highest_score:gpu-1:0.98`` or ``only_healthy_backend``."""


class Route(msgspec.Struct, frozen=True):
    """These backends may answer, best first; the second is the fail-over target."""

    ranked: tuple[Ranked, ...]
    resolved_model: str


class Reject(msgspec.Struct, frozen=True):
    """Nobody may answer; *code* is a key of :data:`nexus.errors.STATUS_OF_CODE`."""

    code: str
    message: str
    reasons: tuple[Verdict, ...] = ()
    context: Mapping[str, Any] | None = None
    """What would have to change, for the client's error body."""
    retry_after_s: int | None = None


Decision = Route | Reject
"""Waiting is not decided here: a route whose every backend is at its limit is what queues."""
