"""The JSON of an explained decision, as ``/v1/route/explain`` and ``/v1/route/decisions/{id}`` return it.

Every key is always present, null or empty where it does not apply; keys may be added, and none changes its meaning.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

import msgspec

from nexus.domain.priorities import RequestPriority


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """One decision, and how it was made."""

    id: str
    """The id that Nexus gave to the request and its decision: ``request_id`` in the log."""
    client_request_id: str | None
    """The ``X-Request-Id`` that the client sent; null when it sent none."""
    source: Literal["request", "proxy", "probes"]
    """``request``: a request that was carried out. ``proxy``: what the running proxy would decide now. ``probes``: what
    a proxy would decide that has just started and probed the fleet once."""
    received_at: datetime
    """When the request arrived, UTC."""
    request: "RequestReport"
    """What routing knew of the request."""
    policies: tuple["PolicyReport", ...]
    """Every traffic policy that applies to a model of the chain, in the order of the file."""
    rounds: tuple["RoundReport", ...]
    """The first search through the chain, and one more after each failed attempt."""
    decision: "DecisionReport"
    """The decision of the last round."""
    why_not: tuple["WhyNot", ...]
    """One sentence for each backend that was not chosen."""
    outcome: "OutcomeReport | None"
    """How it ended; null while it is in progress, and when nothing was sent."""


class RequestReport(msgspec.Struct, frozen=True, kw_only=True):
    """What routing knew of the request, without its prompt."""

    model: str
    """As the client sent it."""
    endpoint: str
    """The name of the endpoint."""
    protocol: str
    """``openai``, ``ollama`` or ``anthropic``."""
    path: str
    """The path of the endpoint."""
    is_stream: bool
    """Whether the answer is streamed."""
    prompt_tokens: int
    """The estimated length of the prompt."""
    max_tokens: int | None
    """The maximum length of the answer; null when the client set none."""
    needs: tuple[str, ...]
    """The capabilities that it needs: ``vision``, ``tools``, ``json_mode``, ``embeddings``."""
    hints: Mapping[str, str]
    """The ``X-Nexus-*`` headers for stages, lower case."""


class PolicyReport(msgspec.Struct, frozen=True, kw_only=True):
    """A traffic policy that applies."""

    index: int
    """Its place in the file, from 0."""
    model_pattern: str
    """The model names that it applies to."""
    fallback_allowed: bool
    """Whether the fallbacks of these models are tried."""
    keys: Mapping[str, Any]
    """The policy keys, by plugin."""


class RoundReport(msgspec.Struct, frozen=True, kw_only=True):
    """One search through the chain."""

    tries: int
    """How often the search was made before it found a free slot."""
    models: tuple["ModelReport", ...]
    """The chain, up to the first model with a backend that could answer."""
    decision: "DecisionReport"
    """The result."""


class ModelReport(msgspec.Struct, frozen=True, kw_only=True):
    """One model of the chain: the one asked for, or a fallback."""

    requested: str
    """The name asked for, or the name of the fallback."""
    resolved: str
    """The name after ``routing.aliases`` and ``routing.loose_tags``."""
    policies: tuple[int, ...]
    """The indexes of the policies that apply: that of the name asked for, and a fallback's own."""
    candidates: Mapping[str, str]
    """The backends that have the model, before any stage, each with its own name for it."""
    notes: tuple["Note", ...]
    """What the stages know of the candidates, in words, for those that were asked for facts (see ``facts`` of a stage);
    by candidate, then by stage."""
    stages: tuple["StageReport", ...]
    """In order; empty when no backend has the model."""
    ranking: tuple["Choice", ...]
    """The remaining backends, best first."""


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """What one stage knows of one candidate."""

    backend: str
    """The candidate."""
    stage: str
    """The stage."""
    text: str
    """One sentence."""


class StageReport(msgspec.Struct, frozen=True, kw_only=True):
    """What one stage decided."""

    stage: str
    """Its name."""
    plugin: str
    """The plugin that it comes from, or ``built in``."""
    priority: int
    """Its priority."""
    observes: bool
    """Whether it only observes (``[routing] observe``)."""
    is_idle: bool
    """Whether nothing is configured for it to decide, so that it is called only for requests with hints."""
    was_skipped: bool
    """Whether it failed and was skipped; the log says why."""
    microseconds: float | None
    """How long it took; null when it did not finish, or did not run. 0 if it was not called, because it is idle or its
    verdicts were remembered."""
    excluded: tuple["Remark", ...]
    """Backends that it excluded."""
    avoided: tuple["Remark", ...]
    """Backends to be used only when no other is left."""
    weighed: tuple["Remark", ...]
    """Backends whose score is multiplied by a factor."""
    would_have: tuple["Remark", ...]
    """What it would have decided, when it only observes."""
    facts: Mapping[str, Any] | None
    """The facts by which it judged, in its own terms; null when they were not asked for. For a request that is carried
    out, ``X-Nexus-Explain: 1`` asks for them."""


class Remark(msgspec.Struct, frozen=True, kw_only=True):
    """What one stage decided about one backend."""

    backend: str
    """Its name."""
    reason: str
    """Why."""
    suggested_action: str
    """What the client or the operator could do about it; empty when nothing is suggested."""
    factor: float | None
    """The factor of its score; null unless it is weighed."""
    code: str | None
    """The error code when this leaves no backend; null unless it is excluded."""


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """A backend of the ranking."""

    rank: int
    """From 1."""
    backend: str
    """Its name."""
    model: str
    """Its own name for the model."""
    score: float
    """The sum of what the parts add, times the factors; ``smart`` rounds the sum down."""
    share: float
    """Its share of the work; where shares differ, load is relative to them, and equal scores are divided by them."""
    is_avoided: bool
    """Whether it comes after all backends that no stage avoids."""
    is_full: bool
    """Whether it could not take the request at once: it was at its limit, or a stage had it wait."""
    parts: tuple["PartReport", ...]
    """The parts of the score: three with ``smart``, one with every other strategy."""
    factors: tuple["Factor", ...]
    """The factors of the score."""


class PartReport(msgspec.Struct, frozen=True, kw_only=True):
    """One part of a score."""

    name: str
    """``priority``, ``load``, ``latency``, ``turn`` or ``chance``."""
    value: float | None
    """The configured priority, requests in flight, milliseconds (null: not measured yet), the number of backends whose
    turn comes before, or the number drawn."""
    points: float
    """Higher is better."""
    weight: int
    """In percent, from ``[routing.weights]``."""
    adds: float
    """Points times weight."""


class Factor(msgspec.Struct, frozen=True, kw_only=True):
    """A factor by which a stage multiplied a score."""

    stage: str
    """The stage."""
    factor: float
    """From 0 to 1."""
    reason: str
    """Why."""


class WaitReport(msgspec.Struct, frozen=True, kw_only=True):
    """How long a request would wait that was sent now."""

    priority: RequestPriority
    """As far as its key allows."""
    position: int
    """Its place among the requests that wait; 1 is the next."""
    expected_wait_s: float
    """At the rate at which its backends have taken requests from the queue lately."""
    is_measured: bool
    """Whether that rate was measured; otherwise each backend counts as taking one request per second."""
    limit_s: float | None
    """How long it may wait; null: until its own deadline."""
    limited_by: str | None
    """What limits the wait: ``queue.max_wait_seconds`` or ``X-Nexus-Queue-Timeout``."""


class DecisionReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was decided, or would be."""

    decision: Literal["route", "queue", "reject"]
    """``queue``: no backend that could answer can take it at once, and the request waits for one of them."""
    backend: str | None = None
    """The chosen backend; null unless it is ``route``."""
    model: str | None = None
    """The backend's own name for the model."""
    fallback_model: str | None = None
    """``X-Nexus-Fallback-Model``."""
    translated: str | None = None
    """``X-Nexus-Translated``: the protocols of client and backend, if they differ."""
    untranslated: tuple[str, ...] = ()
    """``X-Nexus-Untranslated``: the fields of the request that its translation would leave out; for a request that was
    sent, the ``outcome`` has them."""
    route_reason: str | None = None
    """``X-Nexus-Route-Reason``."""
    reason: str | None = None
    """Why this backend was chosen."""
    full: tuple[str, ...] = ()
    """The backends that could answer but cannot take it at once, because of a limit or a stage."""
    wait: WaitReport | None = None
    """How long it would wait; null unless it is ``queue`` and the running proxy was asked."""
    code: str | None = None
    """The error code; null unless it is ``reject``."""
    status: int | None = None
    """The HTTP status of the code."""
    message: str | None = None
    """The error message."""
    helps: tuple[str, ...] = ()
    """What the stages suggest that the client or the operator do."""
    retry_after_s: int | None = None
    """``Retry-After``."""
    context: Mapping[str, Any] | None = None
    """The ``context`` of the error's body."""


class WhyNot(msgspec.Struct, frozen=True, kw_only=True):
    """Why a backend was not chosen."""

    backend: str
    """Its name."""
    why: str
    """The sentence."""


class OutcomeReport(msgspec.Struct, frozen=True, kw_only=True):
    """How a request ended."""

    status: int
    """The status that was sent to the client."""
    ending: str
    """As in the access line (:doc:`logs`)."""
    result: str
    """The result, as in the history (:doc:`endpoints`)."""
    code: str | None
    """The error code; null when there was no error."""
    translated: str | None
    """``X-Nexus-Translated``: how the answer was translated; null when it was not."""
    untranslated: tuple[str, ...]
    """``X-Nexus-Untranslated``: the fields of the request that were left out in the translation."""
    attempts: tuple["AttemptReport", ...]
    """In order."""
    duration_ms: float
    """From the request's first byte to the end."""
    queued_ms: float
    """The part of it spent waiting for a slot."""
    first_byte_ms: float | None
    """From the request's first byte to the first content sent back; null when there was none."""


class AttemptReport(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt at one backend."""

    backend: str
    """Its name."""
    model: str
    """The backend's own name for the model."""
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
