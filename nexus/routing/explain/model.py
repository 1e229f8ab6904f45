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
    """The id that Nexus gave to the request, which is the decision's too: ``request_id`` in the log."""
    client_request_id: str | None
    """The ``X-Request-Id`` that the client sent; null when it sent none."""
    source: Literal["request", "proxy", "probes"]
    """``request``: one that was carried out. ``proxy``: what the running proxy would decide now. ``probes``: what a
    proxy would decide that has just started and knows of the fleet what one look at it tells."""
    received_at: datetime
    """When the request came, UTC."""
    request: "RequestReport"
    """What routing knew of it."""
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
    """The name of the endpoint that it is for."""
    protocol: str
    """``openai``, ``ollama`` or ``anthropic``."""
    path: str
    """The path of the endpoint."""
    is_stream: bool
    """Whether the answer is to be streamed."""
    prompt_tokens: int
    """How long the prompt is, an estimate."""
    max_tokens: int | None
    """How long the answer may be; null when the client did not say."""
    needs: tuple[str, ...]
    """Of ``vision``, ``tools``, ``json_mode`` and ``embeddings``, those that it needs."""
    hints: Mapping[str, str]
    """The ``X-Nexus-*`` headers by which it spoke to stages, lower case."""


class PolicyReport(msgspec.Struct, frozen=True, kw_only=True):
    """A traffic policy that applies."""

    index: int
    """Its place in the file, from 0."""
    model_pattern: str
    """The names that it is for."""
    fallback_allowed: bool
    """Whether fallbacks of such a name are tried."""
    keys: Mapping[str, Any]
    """By plugin, the keys that it owns."""


class RoundReport(msgspec.Struct, frozen=True, kw_only=True):
    """One search through the chain."""

    tries: int
    """How often it was made before it found a free slot."""
    models: tuple["ModelReport", ...]
    """The chain, up to the first model that somebody could answer for."""
    decision: "DecisionReport"
    """What came of it."""


class ModelReport(msgspec.Struct, frozen=True, kw_only=True):
    """One model of the chain: the one asked for, or a fallback."""

    requested: str
    """The name asked for, or that of the fallback."""
    resolved: str
    """What an alias stands for, or a name whose tag ``routing.loose_tags`` does not take at its word."""
    policies: tuple[int, ...]
    """The indexes of those that hold for it: that of the name asked for, and a fallback's own."""
    candidates: Mapping[str, str]
    """Who has it, before any stage: by backend, the name under which it would be asked."""
    stages: tuple["StageReport", ...]
    """In their order; none where nobody has the model."""
    ranking: tuple["Choice", ...]
    """Who was left, best first."""


class StageReport(msgspec.Struct, frozen=True, kw_only=True):
    """What one stage said."""

    stage: str
    """Its name."""
    plugin: str
    """The plugin that it comes from, or ``built in``."""
    priority: int
    """Its place."""
    observes: bool
    """It decides nothing (``[routing] observe``)."""
    microseconds: float | None
    """The time that it took; null when it did not come to its end, or to its turn."""
    excluded: tuple["Remark", ...]
    """Left out for good."""
    avoided: tuple["Remark", ...]
    """Asked only when nobody else is left."""
    weighed: tuple["Remark", ...]
    """Its score is multiplied by a factor."""
    would_have: tuple["Remark", ...]
    """What it would have said, when it only observes."""
    facts: Mapping[str, Any] | None
    """On what it judged, in its own words; null when it was not asked: of a request that was carried out, only
    ``X-Nexus-Explain: 1`` asks for them."""


class Remark(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that one stage said about one backend."""

    backend: str
    """Its name."""
    reason: str
    """Why."""
    suggested_action: str
    """What the client or the operator could do about it; empty when nothing is suggested."""
    factor: float | None
    """What its score is multiplied by; null unless it is weighed."""
    code: str | None
    """The error code when this is why nobody is left; null unless it is excluded."""


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """A backend that could be asked."""

    rank: int
    """From 1."""
    backend: str
    """Its name."""
    model: str
    """The name under which it is asked."""
    score: float
    """The sum of what the parts add, times the factors; ``smart`` rounds the sum down."""
    share: float
    """Its share of the work; where these differ, its load counts by it, and what is equally good is divided by it."""
    is_avoided: bool
    """It comes after all that no stage wants avoided."""
    is_full: bool
    """It was at its limit."""
    parts: tuple["PartReport", ...]
    """What the score is made of: three in ``smart``, one in every other strategy."""
    factors: tuple["Factor", ...]
    """What it is multiplied by."""


class PartReport(msgspec.Struct, frozen=True, kw_only=True):
    """One of the things that a score is made of."""

    name: str
    """``priority``, ``load``, ``latency``, ``turn`` or ``chance``."""
    value: float | None
    """What was found: the configured priority, requests under way, milliseconds (null: not measured yet), how many
    others have their turn before, the number drawn."""
    points: float
    """What that is worth; the more the better."""
    weight: int
    """In percent, from ``[routing.weights]``."""
    adds: float
    """Points times weight."""


class Factor(msgspec.Struct, frozen=True, kw_only=True):
    """What a stage multiplied a score by."""

    stage: str
    """Which stage."""
    factor: float
    """From 0 to 1."""
    reason: str
    """Why."""


class DecisionReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was decided, or would be."""

    decision: Literal["route", "queue", "reject"]
    """``queue``: all who could answer are at their limit, and the request waits for one of them."""
    backend: str | None = None
    """Who is asked; null unless it is ``route``."""
    model: str | None = None
    """The name under which it is asked."""
    fallback_model: str | None = None
    """``X-Nexus-Fallback-Model``."""
    route_reason: str | None = None
    """``X-Nexus-Route-Reason``."""
    reason: str | None = None
    """Why this one of those that were left."""
    full: tuple[str, ...] = ()
    """Who could answer and is at its limit."""
    code: str | None = None
    """The error code; null unless it is ``reject``."""
    status: int | None = None
    """The HTTP status that goes with it."""
    message: str | None = None
    """The words that go with it."""
    helps: tuple[str, ...] = ()
    """What the client or the operator could do, in the words of the stages."""
    retry_after_s: int | None = None
    """``Retry-After``."""
    context: Mapping[str, Any] | None = None
    """The ``context`` of the error's body."""


class WhyNot(msgspec.Struct, frozen=True, kw_only=True):
    """Why a backend is not the one."""

    backend: str
    """Its name."""
    why: str
    """The sentence."""


class OutcomeReport(msgspec.Struct, frozen=True, kw_only=True):
    """How a request ended."""

    status: int
    """What the client was sent."""
    ending: str
    """As in the access line (:doc:`logs`)."""
    result: str
    """What came of it, as in the history (:doc:`endpoints`)."""
    code: str | None
    """The error code; null when there was no error."""
    attempts: tuple["AttemptReport", ...]
    """In their order."""
    duration_ms: float
    """From the request's first byte to the end."""
    queued_ms: float
    """What of that it waited for a slot."""
    first_byte_ms: float | None
    """From the request's first byte to the first content sent back; null when there was none."""


class AttemptReport(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt at one backend."""

    backend: str
    """Its name."""
    model: str
    """The name under which it was asked."""
    ending: str
    """As in the access line (:doc:`logs`)."""
    fault: str | None
    """How it failed; null when it did not."""
    status: int | None
    """The backend's own; null when there was none."""
    duration_ms: float
    """From sending to the end."""
    first_byte_ms: float | None
    """From sending to the first content; null when there was none."""
