"""The shape of an explained decision: what ``/v1/route/explain`` and ``/v1/route/decisions/{id}`` answer.

Every key is always there, null or empty where there is nothing to say; keys may be added, none changes its meaning.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

import msgspec


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """One decision, and all that led to it."""

    id: str
    """The request's id, which is the decision's too: ``X-Request-Id``, and ``request_id`` in the log."""
    source: Literal["request", "proxy", "probes"]
    """``request``: one that was carried out. ``proxy``: what the running proxy would decide now. ``probes``: what a
    proxy would decide that has just started and knows of the fleet what one look at it tells."""
    received_at: datetime
    request: "RequestReport"
    policies: tuple["PolicyReport", ...]
    """Every traffic policy that applies to a model of the chain, in the order of the file."""
    rounds: tuple["RoundReport", ...]
    """The first search through the chain, and one more after each attempt that failed."""
    decision: "DecisionReport"
    """That of the last round."""
    why_not: tuple["WhyNot", ...]
    """One sentence for each backend of the fleet but the chosen one."""
    outcome: "OutcomeReport | None"
    """How it ended; null while it is under way, and when nothing was sent."""


class RequestReport(msgspec.Struct, frozen=True, kw_only=True):
    """What routing knew of the request; nothing of its prompt."""

    model: str
    """As the client sent it."""
    endpoint: str
    protocol: str
    path: str
    is_stream: bool
    prompt_tokens: int
    """An estimate."""
    max_tokens: int | None
    needs: tuple[str, ...]
    """Of ``vision``, ``tools``, ``json_mode`` and ``embeddings``, those that it needs."""
    hints: Mapping[str, str]
    """The ``X-Nexus-*`` headers by which it spoke to stages, lower case."""


class PolicyReport(msgspec.Struct, frozen=True, kw_only=True):
    """A traffic policy that applies."""

    index: int
    """Its place in the file, from 0."""
    model_pattern: str
    fallback_allowed: bool
    keys: Mapping[str, Any]
    """By plugin, the keys that it owns."""


class RoundReport(msgspec.Struct, frozen=True, kw_only=True):
    """One search through the chain."""

    tries: int
    """How often it was made before it found a free slot."""
    models: tuple["ModelReport", ...]
    """The chain, up to the first model that somebody could answer for."""
    decision: "DecisionReport"


class ModelReport(msgspec.Struct, frozen=True, kw_only=True):
    """One model of the chain: the one asked for, or a fallback."""

    requested: str
    resolved: str
    """What an alias stands for."""
    policies: tuple[int, ...]
    """The indexes of those that hold for it: that of the name asked for, and a fallback's own."""
    candidates: Mapping[str, str]
    """Who has it, before any stage: by backend, the name under which it would be asked."""
    stages: tuple["StageReport", ...]
    ranking: tuple["Choice", ...]
    """Who was left, best first."""


class StageReport(msgspec.Struct, frozen=True, kw_only=True):
    """What one stage said."""

    stage: str
    plugin: str
    priority: int
    observes: bool
    """It decides nothing (``[routing] observe``)."""
    microseconds: float | None
    """The time that it took; null when it did not come to its end, or to its turn."""
    excluded: tuple["Remark", ...]
    avoided: tuple["Remark", ...]
    """Asked only when nobody else is left."""
    weighed: tuple["Remark", ...]
    would_have: tuple["Remark", ...]
    """What it would have said, when it only observes."""
    facts: Mapping[str, Any] | None
    """On what it judged, in its own words; null when it was not asked: of a request that was carried out, only
    ``X-Nexus-Explain: 1`` asks for them."""


class Remark(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that one stage said about one backend."""

    backend: str
    reason: str
    suggested_action: str
    factor: float | None
    """What its score is multiplied by; null unless it is weighed."""
    code: str | None
    """The error code when this is why nobody is left; null unless it is excluded."""


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """A backend that could be asked."""

    rank: int
    """From 1."""
    backend: str
    model: str
    """The name under which it is asked."""
    score: float
    """The sum of what the parts add, times the factors; ``smart`` rounds the sum down."""
    is_avoided: bool
    is_full: bool
    """It was at its limit."""
    parts: tuple["PartReport", ...]
    factors: tuple["Factor", ...]


class PartReport(msgspec.Struct, frozen=True, kw_only=True):
    """One of the things that a score is made of."""

    name: str
    """``priority``, ``load``, ``latency``, ``turn`` or ``chance``."""
    value: float | None
    """What was found: the configured priority, requests under way, milliseconds (null: not measured yet), how many
    others have their turn before, the number drawn."""
    points: float
    weight: int
    """In percent."""
    adds: float
    """Points times weight."""


class Factor(msgspec.Struct, frozen=True, kw_only=True):
    """What a stage multiplied a score by."""

    stage: str
    factor: float
    reason: str


class DecisionReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was decided, or would be."""

    decision: Literal["route", "queue", "reject"]
    backend: str | None = None
    """Who is asked; null unless it is ``route``."""
    model: str | None = None
    """The name under which it is asked."""
    fallback_model: str | None = None
    route_reason: str | None = None
    """``X-Nexus-Route-Reason``."""
    reason: str | None = None
    """Why this one of those that were left."""
    full: tuple[str, ...] = ()
    """Who could answer and is at its limit."""
    code: str | None = None
    """The error code; null unless it is ``reject``."""
    status: int | None = None
    message: str | None = None
    helps: tuple[str, ...] = ()
    """What the client or the operator could do, in the words of the stages."""
    retry_after_s: int | None = None
    context: Mapping[str, Any] | None = None
    """The ``context`` of the error's body."""


class WhyNot(msgspec.Struct, frozen=True, kw_only=True):
    """Why a backend is not the one."""

    backend: str
    why: str


class OutcomeReport(msgspec.Struct, frozen=True, kw_only=True):
    """How a request ended."""

    status: int
    ending: str
    code: str | None
    attempts: tuple["AttemptReport", ...]
    duration_ms: float
    queued_ms: float
    first_byte_ms: float | None


class AttemptReport(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt at one backend."""

    backend: str
    model: str
    ending: str
    fault: str | None
    status: int | None
    duration_ms: float
    first_byte_ms: float | None
