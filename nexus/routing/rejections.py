"""Builds rejections, with messages and facts that the client or the operator can act on."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar

from msgspec.structs import replace

from nexus.domain.backend import Backend, Status
from nexus.domain.fleet import FleetSnapshot
from nexus.domain.naming import Hint, served
from nexus.domain.request import Endpoint, Kept
from nexus.errors import StageFailed
from nexus.routing.core_stages.schedule import Schedule
from nexus.routing.decision import Reject, Saturated
from nexus.routing.intent import RoutingIntent, Verdict
from nexus.routing.model_names.resolution import Resolution

T = TypeVar("T")

MAX_MODELS_LISTED: Final = 20
MAX_REASONS_LISTED: Final = 20
MAX_ACTIONS_LISTED: Final = 10
MAX_NAME_LENGTH: Final = 200
MAX_TEXT_LENGTH: Final = 500
RETRY_SOON_S: Final = 5
RETRY_LATER_S: Final = 30
EXHAUSTED: Final = "fallback_exhausted"
REST_ON_PROBES: Final = frozenset({"model_not_found", "no_healthy_backend", EXHAUSTED})
"""Codes that depend on the last probes: since then, a backend may have a new model or be back."""

HARDNESS: Final[Mapping[str, int]] = {
    "protocol_not_supported": 0,
    "capability_mismatch": 1,
    "context_length_exceeded": 2,
    "rejected_by_policy": 3,
    "no_healthy_backend": 4,
}
"""By code, lower where waiting helps less. For each backend the lowest counts, then the highest of all backends: a
request that some backend could serve once it is healthy is not the client's fault."""


def no_model_named(snapshot: FleetSnapshot) -> Reject:
    """The request names no model, and there is not exactly one."""
    names = served(snapshot)[:MAX_MODELS_LISTED]
    listed = f" one of: {', '.join(names)}" if names else " the model to ask"
    message = f"'model' is missing or empty; name{listed}. The operator can set routing.default_model"
    return Reject("invalid_value", message, param="model")


def kept_object_gone(kept: Kept, model: str) -> Reject:
    """The backend that keeps what the request refers to has left the fleet, or does not have *model*.

    :param model: empty when the backend has left.
    """
    reference, backend = kept.reference, kept.backend
    cause = f"does not have the model '{shortened(model)}'" if model else "is not in the fleet any more"
    if reference.param == "previous_response_id":
        message = (
            f"Previous response with id '{reference.id}' not found: backend '{backend}', which keeps it, {cause};"
            " send the whole conversation without previous_response_id"
        )
        return Reject("previous_response_not_found", message, param=reference.param)
    message = f"No object with id '{reference.id}' found: backend '{backend}', which keeps it, {cause}"
    return Reject("object_not_found", message, param=reference.param)


def endpoint_not_served(endpoint: Endpoint) -> Reject:
    """No backend serves *endpoint*, and the request names no model."""
    asked = f"{' and '.join(endpoint.methods)} {endpoint.path}"
    message = f"No backend serves {asked}; the reference of endpoints lists the kinds of backends that do"
    return Reject("protocol_not_supported", message, param="")


def unknown_model(model: str, snapshot: FleetSnapshot, known: Sequence[str], hint: Hint | None) -> Reject:
    """No backend lists *model*.

    :param known: the models that a backend can be asked for.
    :param hint: similar names, if any.
    """
    if snapshot.backends and not snapshot.by_model and not any(b.status is Status.HEALTHY for b in snapshot.backends):
        # No backend has listed its models yet, so the model may exist.
        return _none_healthy(model, (), snapshot)
    names, more = known[:MAX_MODELS_LISTED], len(known) - MAX_MODELS_LISTED
    available = f"Available: {', '.join(names)}" if names else "No models available"
    parts = (f"Model '{shortened(model)}' not found.", hint.text if hint else "", available)
    message = f"{' '.join(filter(None, parts))}{f' and {more} more' if more > 0 else ''}"
    return Reject("model_not_found", message, context=hint.context if hint else None)


def no_backend_left(resolution: Resolution, intent: RoutingIntent, *, has_tried: bool) -> Reject:
    """Every backend that has the model is excluded, or has been tried and failed."""
    model, reasons = resolution.requested, tuple(intent.excluded)
    # A backend that was tried could serve the request, so its failure is a matter of health.
    code = "no_healthy_backend" if has_tried else _nearest_code(reasons)
    match code:
        case "protocol_not_supported":
            return _wrong_protocol(resolution, intent)
        case "capability_mismatch":
            missing = sorted({name for v in reasons for name in map(str, _fact(v, "missing_capabilities", list, []))})
            message = f"Model '{shortened(model)}' lacks required capabilities: {', '.join(missing)}"
            return Reject(code, message, reasons, {"missing_capabilities": missing})
        case "context_length_exceeded":
            return _too_long(intent)
        case "no_healthy_backend":
            return _none_healthy(model, reasons, intent.snapshot)
        case _:
            return _refused(code, model, intent)


def chain_exhausted(models: Sequence[str], rejects: Sequence[Reject], snapshot: FleetSnapshot) -> Reject:
    """Neither the model nor any of its fallbacks can answer."""
    reasons = tuple(verdict for reject in rejects for verdict in reject.reasons)
    message = f"Neither model '{shortened(models[0])}' nor its fallbacks can answer: {', '.join(models[1:])}"
    near = dict.fromkeys(name for reject in rejects for name in (reject.context or {}).get("did_you_mean", ()))
    context = {
        **({"did_you_mean": tuple(near)} if near else {}),
        "fallback_chain": [shortened(model) for model in models],
        "failures": [{"model": shortened(m), "code": r.code} for m, r in zip(models, rejects, strict=True)],
        **what_would_help(reasons, snapshot.backends),
    }
    return Reject(EXHAUSTED, message, distinct(reasons), context, RETRY_SOON_S)


def decisive(reject: Reject) -> Verdict | None:
    """Return the verdict of a stage that led to *reject*, preferably one with its code; None when there is none."""
    verdicts = [verdict for verdict in reject.reasons if verdict.stage != "attempt"]
    return max(verdicts, key=lambda verdict: (verdict.code == reject.code, _hardness(verdict)), default=None)


def after_attempts(reject: Reject, failures: Iterable[Verdict], backends: Iterable[Backend]) -> Reject:
    """Return *reject* with the *failures* of the attempts before it, which the stages did not see.

    :param backends: the whole fleet.
    """
    reasons = distinct((*failures, *reject.reasons))
    context = {**(reject.context or {}), **what_would_help(reasons, backends)}
    return replace(reject, reasons=reasons, context=context)


def stage_failed(failure: StageFailed, snapshot: FleetSnapshot) -> Reject:
    """A stage failed whose failure rejects the request."""
    message = f"Routing is unavailable: stage '{failure.stage}' failed, and requests must not bypass it"
    context = {"stage": failure.stage, **what_would_help((), snapshot.backends)}
    return Reject("policy_unavailable", message, (), context, RETRY_SOON_S)


def unsupported_hint(header: str, stage: str) -> Reject:
    """The client sent *header*, but the *stage* that obeys it is not installed."""
    message = f"The header '{header}' needs the stage '{stage}', which is not installed"
    return Reject("unsupported_parameter", message)


def saturation(saturated: Saturated) -> tuple[Verdict, ...]:
    """Return why no backend with the model can be used, when the request cannot wait any longer."""
    return (*saturated.waits_for, *saturated.reasons)


def overload(saturated: Saturated) -> str:
    """Return the message when no backend can answer now and requests may not wait."""
    other = next((verdict.reason for verdict in saturated.waits_for if verdict.stage != Schedule.name), None)
    return "every backend is at its limit" if other is None else f"no backend can answer yet: {other}"


def what_would_help(reasons: Iterable[Verdict], backends: Iterable[Backend]) -> dict[str, Any]:
    """Return the context of every 503 of routing: healthy backends, why none could be used, and what to do.

    :param backends: the whole fleet.
    """
    reasons = tuple(reasons)
    facts: dict[str, Any] = {}
    for verdict in reasons:
        # Earlier reasons win: they concern the model asked for, and its own policy.
        facts = {**(verdict.context or {}), **facts}
    actions = dict.fromkeys(shortened(verdict.action) for verdict in reasons if verdict.action)
    return {
        "available_backends": [backend.name for backend in backends if backend.status is Status.HEALTHY],
        "rejection_reasons": reasons_as_json(distinct(reasons)),
        "suggested_actions": list(actions)[:MAX_ACTIONS_LISTED],
        **facts,
    }


def distinct(reasons: Iterable[Verdict]) -> tuple[Verdict, ...]:
    """Return *reasons* without repetitions: each model of a chain may exclude a backend for the same reason."""
    first: dict[tuple[str, str, str, str], Verdict] = {}
    for verdict in reasons:
        first.setdefault((verdict.backend, verdict.stage, verdict.reason, verdict.action), verdict)
    return tuple(first.values())


def reasons_as_json(reasons: Iterable[Verdict]) -> list[dict[str, str]]:
    """Return the first of *reasons* in the form that clients get."""
    return [reason_as_json(verdict) for verdict in tuple(reasons)[:MAX_REASONS_LISTED]]


def reason_as_json(verdict: Verdict) -> dict[str, str]:
    """Return one reason in the form that clients get."""
    return {
        "agent_id": verdict.backend,
        "reconciler": verdict.stage,
        "reason": shortened(verdict.reason, MAX_TEXT_LENGTH),
        "suggested_action": shortened(verdict.action, MAX_TEXT_LENGTH),
    }


def shortened(text: str, limit: int = MAX_NAME_LENGTH) -> str:
    """Return *text*, which a client or a plugin chose, cut to a length that fits into a message."""
    return text if len(text) <= limit else f"{text[:limit]}…"


def _nearest_code(reasons: Iterable[Verdict]) -> str:
    hardest: dict[str, Verdict] = {}
    for verdict in reasons:
        other = hardest.setdefault(verdict.backend, verdict)
        if _hardness(verdict) < _hardness(other):
            hardest[verdict.backend] = verdict
    return max(hardest.values(), key=_hardness).code


def _hardness(verdict: Verdict) -> int:
    return HARDNESS.get(verdict.code, HARDNESS["rejected_by_policy"])


def _wrong_protocol(resolution: Resolution, intent: RoutingIntent) -> Reject:
    asked, model = intent.endpoint, resolution.requested
    subject = f"Model '{shortened(model)}'" if model else "What the request is about"
    endpoints = sorted({name for backend, _ in resolution.candidates.values() for name in backend.endpoints})
    protocols = sorted({name.partition(".")[0] for name in endpoints})
    served = ", ".join(protocols) or "none"
    message = f"{subject} is not served over the {asked.protocol} protocol; it is served over: {served}"
    if asked.protocol in protocols:
        message = f"{subject} is not served at {asked.path}; its backends serve: {', '.join(endpoints)}"
    context = {"served_protocols": protocols, "served_endpoints": endpoints}
    return Reject("protocol_not_supported", message, tuple(intent.excluded), context)


def _too_long(intent: RoutingIntent) -> Reject:
    longest = max(_fact(verdict, "context_length", int, 0) for verdict in intent.excluded)
    wanted = intent.requirements
    prompt, answer = wanted.prompt_token_ids or wanted.prompt_tokens, wanted.max_tokens or 0
    # OpenAI's wording, which client libraries match on; other protocols have their own.
    message = (
        f"This model's maximum context length is {longest} tokens. However, you requested {prompt + answer} tokens"
        f" ({prompt} in the prompt, {answer} in the completion). Please reduce the length of the prompt or completion."
    )
    context = {"context_length": longest, "needed_tokens": prompt + answer, "prompt_tokens": prompt}
    return Reject("context_length_exceeded", message, tuple(intent.excluded), context)


def _none_healthy(model: str, reasons: tuple[Verdict, ...], snapshot: FleetSnapshot) -> Reject:
    message = f"No healthy backend available{_for(model)}"
    context = what_would_help(reasons, snapshot.backends)
    return Reject("no_healthy_backend", message, reasons, context, RETRY_SOON_S)


def _refused(code: str, model: str, intent: RoutingIntent) -> Reject:
    reasons = tuple(intent.excluded)
    # Only the stages behind this code are named, not those that excluded other backends for other reasons.
    refusals = [v for v in reasons if v.code == code]
    policies = sorted({v.stage for v in refusals})
    count = len({verdict.backend for verdict in reasons})
    excluded = "1 backend excluded" if count == 1 else f"{count} backends excluded"
    # Most clients show only the message, so it includes the first reason.
    message = f"Request{_for(model)} rejected: {excluded} by {', '.join(policies)}: {shortened(refusals[0].reason)}"
    return Reject(code, message, reasons, what_would_help(reasons, intent.snapshot.backends), RETRY_LATER_S)


def _for(model: str) -> str:
    """Return the phrase "for model ..."; empty for a request that names none."""
    return f" for model '{shortened(model)}'" if model else ""


def _fact(verdict: Verdict, name: str, type_: type[T], default: T) -> T:
    """Return a fact of the context; *default* when a plugin used the code with other facts."""
    fact = (verdict.context or {}).get(name)
    return fact if isinstance(fact, type_) else default
