"""Validates all verdicts of a plugin's stage before any of them is merged into the intent."""

import re
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from math import inf, isfinite
from typing import Any, Final

import msgspec

from nexus.error_codes import REPLY_CODES
from nexus.errors import NexusError
from nexus.routing.intent import RoutingIntent, Verdict
from nexus.routing.stage.api import Refusal

MAX_TEXT_LENGTH: Final = 500
"""A longer reason is cut, because people read it and clients get it."""
MAX_CONTEXT_BYTES: Final = 4096
MIN_RETRY_S: Final = 0.05
"""A shorter time to try again would keep the event loop busy."""
MAX_VERDICTS: Final = 16
"""On average for each candidate."""

CORE_HEADERS: Final = frozenset(
    {
        "x-nexus-attempts",
        "x-nexus-backend",
        "x-nexus-backend-id",
        "x-nexus-backend-type",
        "x-nexus-fallback-model",
        "x-nexus-hops",
        "x-nexus-privacy-zone",
        "x-nexus-route-reason",
        "x-nexus-version",
    }
)
"""Response headers that the core sets itself, lower case."""

_HEADER: Final = re.compile("X-Nexus-[A-Za-z0-9-]{1,64}", re.IGNORECASE)


class StageMisbehaved(NexusError):
    """A stage broke a rule of its interface; the text continues after the stage's name."""


def validate(shadow: RoutingIntent, intent: RoutingIntent, stage: str) -> None:
    """Validate all verdicts of *stage* on *shadow*, its copy of *intent*.

    :raises StageMisbehaved: one of them is invalid, so none of them may be merged.
    """
    limit = MAX_VERDICTS * (len(intent.survivors) + 1)
    for verdicts in (shadow.excluded, shadow.avoided, shadow.weights):
        if len(verdicts) > limit:
            raise StageMisbehaved(f"gave {len(verdicts)} verdicts about {len(intent.survivors)} candidates")
        if verdicts and not _are_plain(verdicts, intent, stage):
            verdicts[:] = _validated(verdicts, intent, stage)


def merge(shadow: RoutingIntent, intent: RoutingIntent) -> None:
    """Merge the validated verdicts on *shadow* into *intent*."""
    for verdict in shadow.excluded:
        intent.survivors.pop(verdict.backend, None)
    intent.excluded.extend(shadow.excluded)
    intent.avoided.extend(shadow.avoided)
    intent.weights.extend(shadow.weights)


def valid_text(text: object, what: str) -> str:
    """Return *text* in a form that can be shown and sent. :raises StageMisbehaved: it is no text."""
    if not isinstance(text, str):
        raise StageMisbehaved(f"gave {type(text).__name__} as {what}")
    # A subclass of str may run any code, and half a surrogate pair cannot be encoded.
    plain = str.__str__(text).encode(errors="replace").decode()
    return plain if len(plain) <= MAX_TEXT_LENGTH else f"{plain[:MAX_TEXT_LENGTH]}…"


def valid_refusal(refusal: object) -> Refusal:
    """Return a copy of *refusal* that can be sent to a client. :raises StageMisbehaved: it is invalid."""
    if not isinstance(refusal, Refusal):
        raise StageMisbehaved(f"gave {type(refusal).__name__} instead of a refusal")
    return Refusal(
        reason=valid_text(refusal.reason, "a reason"),
        is_saturation=bool(refusal.is_saturation),
        action=valid_text(refusal.action, "an action"),
        context=None if refusal.context is None else valid_facts(refusal.context, MAX_CONTEXT_BYTES),
        retry_in_s=None if refusal.retry_in_s is None else valid_seconds(refusal.retry_in_s),
    )


def valid_seconds(seconds: object) -> float:
    """Return *seconds*, at least ``MIN_RETRY_S``. :raises StageMisbehaved: it is no finite number."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not isfinite(seconds):
        raise StageMisbehaved("gave a retry_in_s that is no number")
    return max(MIN_RETRY_S, float(seconds))


def valid_facts(facts: object, max_bytes: int) -> Any:
    """Return a copy of *facts*, a mapping of JSON values. :raises StageMisbehaved: it is something else."""
    if not isinstance(facts, Mapping):
        raise StageMisbehaved(f"gave {type(facts).__name__} instead of a mapping")
    try:
        encoded = msgspec.json.encode(facts)
    except (TypeError, ValueError, RecursionError) as exc:
        raise StageMisbehaved(f"gave facts that are not JSON: {exc}") from exc
    if len(encoded) > max_bytes:
        raise StageMisbehaved(f"gave {len(encoded)} bytes of facts; the limit is {max_bytes}")
    return msgspec.json.decode(encoded)


def valid_sentences(sentences: object, max_characters: int) -> Mapping[str, str]:
    """Return a copy of *sentences*, one for each of some backends. :raises StageMisbehaved: it is something else."""
    if not isinstance(sentences, Mapping):
        raise StageMisbehaved(f"gave {type(sentences).__name__} instead of a sentence for each candidate")
    copy = dict(sentences)
    for backend, sentence in copy.items():
        if not isinstance(backend, str) or not isinstance(sentence, str) or len(sentence) > max_characters:
            raise StageMisbehaved(f"gave no text of up to {max_characters} characters about {backend!r:.80}")
    return copy


def valid_headers(headers: object) -> Mapping[str, str]:
    """Return a copy of *headers* that can be sent to a client. :raises StageMisbehaved: they cannot be sent."""
    if not isinstance(headers, Mapping):
        raise StageMisbehaved(f"gave {type(headers).__name__} instead of headers")
    copy = dict(headers)
    for name, value in copy.items():
        if not isinstance(name, str) or not _HEADER.fullmatch(name) or name.lower() in CORE_HEADERS:
            raise StageMisbehaved(f"gave a header that a stage must not set: {name!r:.80}")
        if not isinstance(value, str) or not value.isprintable() or len(value) > MAX_TEXT_LENGTH:
            raise StageMisbehaved(f"gave the header {name} a value that cannot be sent")
    return copy


def valid_cost(cost: object) -> float | None:
    """Return *cost*, an amount of US dollars or None. :raises StageMisbehaved: it is neither."""
    if cost is None or (isinstance(cost, int | float) and 0.0 <= cost < inf):
        return cost
    raise StageMisbehaved(f"gave {cost!r:.80} instead of US dollars")


def _are_plain(verdicts: Sequence[Verdict], intent: RoutingIntent, stage: str) -> bool:
    """Whether all *verdicts* are valid as they are; a fast path, taken by almost every request."""
    candidates, codes = intent.survivors, REPLY_CODES
    plain: str | None = None
    for verdict in verdicts:
        if (
            type(verdict) is not Verdict
            or verdict.stage != stage
            or verdict.backend not in candidates
            or verdict.code not in codes
            or not 0.0 <= verdict.factor <= 1.0
            or verdict.context is not None
            # Many verdicts of a stage share one reason.
            or (verdict.reason is not plain and not _is_plain(verdict.reason))
            or (verdict.action != "" and not _is_plain(verdict.action))
        ):
            return False
        plain = verdict.reason
    return True


def _is_plain(text: object) -> bool:
    return type(text) is str and 0 < len(text) <= MAX_TEXT_LENGTH and text.isascii() and not text.isspace()


def _validated(verdicts: Sequence[Verdict], intent: RoutingIntent, stage: str) -> list[Verdict]:
    # Verdicts on backends that are already excluded are allowed.
    known = intent.survivors.keys() | {verdict.backend for verdict in intent.excluded}
    contexts: dict[int, Any] = {id(None): None}
    return [_validated_verdict(verdict, known, stage, contexts) for verdict in verdicts]


def _validated_verdict(verdict: Verdict, known: AbstractSet[str], stage: str, contexts: dict[int, Any]) -> Verdict:
    """:param contexts: copies of contexts, by identity, because many verdicts often share one."""
    if type(verdict) is not Verdict:
        raise StageMisbehaved(f"gave {type(verdict).__name__} instead of a verdict")
    if verdict.stage != stage:
        raise StageMisbehaved(f"gave a verdict in the name of {verdict.stage!r:.80}")
    if verdict.backend not in known:
        raise StageMisbehaved(f"gave a verdict on {verdict.backend!r:.80}, which is no candidate")
    if verdict.code not in REPLY_CODES:
        raise StageMisbehaved(f"gave an unknown error code: {verdict.code!r:.80}")
    if not 0.0 <= verdict.factor <= 1.0:
        raise StageMisbehaved(f"weighed by {verdict.factor!r:.80}")
    reason, action, context = verdict.reason, verdict.action, verdict.context
    if not _is_plain(reason) and not (reason := valid_text(reason, "a reason")).strip():
        raise StageMisbehaved("gave no reason")
    if not _is_plain(action):
        action = valid_text(action, "an action")
    if id(context) not in contexts:
        contexts[id(context)] = valid_facts(context, MAX_CONTEXT_BYTES)
    return Verdict(verdict.backend, verdict.stage, reason, action, verdict.factor, verdict.code, contexts[id(context)])
