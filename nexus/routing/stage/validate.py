"""What a plugin's stage said about the candidates of a request, checked as a whole before any of it counts."""

import re
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from math import inf
from typing import Any, Final

import msgspec

from nexus.errors import STATUS_OF_CODE, NexusError
from nexus.routing.intent import RoutingIntent, Verdict
from nexus.routing.stage.api import Refusal

LONGEST_TEXT: Final = 500
"""A longer reason is cut: people read it, and clients get it."""
LONGEST_CONTEXT_BYTES: Final = 4096
MOST_VERDICTS: Final = 16
"""On average for each candidate; a stage that says more has lost its way."""


HEADERS_OF_THE_CORE: Final = frozenset(
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
"""What the core tells clients of an answer itself, lower case."""

_HEADER: Final = re.compile("X-Nexus-[A-Za-z0-9-]{1,64}", re.IGNORECASE)


class StageMisbehaved(NexusError):
    """A stage did what no stage may; the text goes on from the stage's name."""


def hear(spoken: RoutingIntent, asked: RoutingIntent, stage: str) -> None:
    """Check all that *stage* said on *spoken*, its shadow of *asked*.

    :raises StageMisbehaved: something of it cannot be meant; then nothing of it may count.
    """
    most = MOST_VERDICTS * (len(asked.survivors) + 1)
    for said in (spoken.excluded, spoken.avoided, spoken.weights):
        if len(said) > most:
            raise StageMisbehaved(f"said {len(said)} things about {len(asked.survivors)} candidates")
        if said and not _are_plain(said, asked, stage):
            said[:] = _sound(said, asked, stage)


def let_count(spoken: RoutingIntent, asked: RoutingIntent) -> None:
    """Let what was said on *spoken*, and checked, count on *asked*."""
    for verdict in spoken.excluded:
        asked.survivors.pop(verdict.backend, None)
    asked.excluded.extend(spoken.excluded)
    asked.avoided.extend(spoken.avoided)
    asked.weights.extend(spoken.weights)


def sound_text(text: object, what: str) -> str:
    """Return *text* in a form that can be shown and sent. :raises StageMisbehaved: it says nothing."""
    if not isinstance(text, str):
        raise StageMisbehaved(f"gave {type(text).__name__} as {what}")
    # Of a class of its own, a text may do anything; half a character breaks whatever it is written to.
    plain = str.__str__(text).encode(errors="replace").decode()
    return plain if len(plain) <= LONGEST_TEXT else f"{plain[:LONGEST_TEXT]}…"


def sound_refusal(refusal: object) -> Refusal:
    """Return a copy of *refusal* that a client can be told. :raises StageMisbehaved: it is none."""
    if not isinstance(refusal, Refusal):
        raise StageMisbehaved(f"gave {type(refusal).__name__} for a refusal")
    return Refusal(
        reason=sound_text(refusal.reason, "a reason"),
        is_saturation=bool(refusal.is_saturation),
        action=sound_text(refusal.action, "an action"),
        context=None if refusal.context is None else sound_facts(refusal.context, LONGEST_CONTEXT_BYTES),
    )


def sound_facts(facts: object, longest_bytes: int) -> Any:
    """Return a copy of *facts*, a mapping of JSON values. :raises StageMisbehaved: it is none."""
    if not isinstance(facts, Mapping):
        raise StageMisbehaved(f"gave {type(facts).__name__} instead of a mapping")
    try:
        encoded = msgspec.json.encode(facts)
    except (TypeError, ValueError, RecursionError) as exc:
        raise StageMisbehaved(f"gave facts that are no JSON: {exc}") from exc
    if len(encoded) > longest_bytes:
        raise StageMisbehaved(f"gave {len(encoded)} bytes of facts; at most {longest_bytes} are taken")
    return msgspec.json.decode(encoded)


def sound_headers(headers: object) -> Mapping[str, str]:
    """Return a copy of *headers*, which a client can be sent. :raises StageMisbehaved: they cannot be sent."""
    if not isinstance(headers, Mapping):
        raise StageMisbehaved(f"gave {type(headers).__name__} instead of headers")
    told = dict(headers)
    for name, value in told.items():
        if not isinstance(name, str) or not _HEADER.fullmatch(name) or name.lower() in HEADERS_OF_THE_CORE:
            raise StageMisbehaved(f"gave a header that is not for it to give: {name!r:.80}")
        if not isinstance(value, str) or not value.isprintable() or len(value) > LONGEST_TEXT:
            raise StageMisbehaved(f"gave the header {name} a value that cannot be sent")
    return told


def sound_cost(cost: object) -> float | None:
    """Return *cost*, US dollars, when it is some or None. :raises StageMisbehaved: it is not."""
    if cost is None or (isinstance(cost, int | float) and 0.0 <= cost < inf):
        return cost
    raise StageMisbehaved(f"gave {cost!r:.80} instead of US dollars")


def _are_plain(said: Sequence[Verdict], asked: RoutingIntent, stage: str) -> bool:
    """Whether all of it can be taken as it is, as almost always: this runs for every request, and what follows not."""
    candidates, codes = asked.survivors, STATUS_OF_CODE
    for verdict in said:
        if (
            type(verdict) is not Verdict
            or verdict.stage != stage
            or verdict.backend not in candidates
            or verdict.code not in codes
            or not 0.0 <= verdict.factor <= 1.0
            or verdict.context is not None
            or not _is_plain(verdict.reason)
            or (verdict.action != "" and not _is_plain(verdict.action))
        ):
            return False
    return True


def _is_plain(text: object) -> bool:
    return type(text) is str and 0 < len(text) <= LONGEST_TEXT and text.isascii() and not text.isspace()


def _sound(said: Sequence[Verdict], asked: RoutingIntent, stage: str) -> list[Verdict]:
    # One who is out already may be spoken of, too.
    known = asked.survivors.keys() | {verdict.backend for verdict in asked.excluded}
    contexts: dict[int, Any] = {id(None): None}
    return [_sound_verdict(verdict, known, stage, contexts) for verdict in said]


def _sound_verdict(verdict: Verdict, known: AbstractSet[str], stage: str, contexts: dict[int, Any]) -> Verdict:
    """:param contexts: copies of the contexts so far, by their identity: one is often given for many backends."""
    if type(verdict) is not Verdict:
        raise StageMisbehaved(f"gave {type(verdict).__name__} for a verdict")
    if verdict.stage != stage:
        raise StageMisbehaved(f"spoke in the name of {verdict.stage!r:.80}")
    if verdict.backend not in known:
        raise StageMisbehaved(f"spoke about {verdict.backend!r:.80}, which is no candidate")
    if verdict.code not in STATUS_OF_CODE:
        raise StageMisbehaved(f"gave an error code that there is not: {verdict.code!r:.80}")
    if not 0.0 <= verdict.factor <= 1.0:
        raise StageMisbehaved(f"weighed by {verdict.factor!r:.80}")
    reason, action, context = verdict.reason, verdict.action, verdict.context
    if not _is_plain(reason) and not (reason := sound_text(reason, "a reason")).strip():
        raise StageMisbehaved("gave no reason")
    if not _is_plain(action):
        action = sound_text(action, "an action")
    if id(context) not in contexts:
        contexts[id(context)] = sound_facts(context, LONGEST_CONTEXT_BYTES)
    return Verdict(verdict.backend, verdict.stage, reason, action, verdict.factor, verdict.code, contexts[id(context)])
