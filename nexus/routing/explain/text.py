"""Renders an explanation as text for a terminal."""

from collections.abc import Iterator
from typing import Final

import msgspec

from nexus.routing.explain.model import (
    Choice,
    DecisionReport,
    Explanation,
    ModelReport,
    RoundReport,
    StageReport,
    WaitReport,
)

MIN_NAME_WIDTH: Final = 12


def as_text(explanation: Explanation) -> str:
    """Return *explanation* as lines of any length."""
    return "\n".join(_lines(explanation))


def _lines(explanation: Explanation) -> Iterator[str]:
    request = explanation.request
    yield f"model {request.model} at {request.endpoint} (POST {request.path})"
    answer = f", at most {request.max_tokens} for the answer" if request.max_tokens else ""
    needs = f", needs {', '.join(request.needs)}" if request.needs else ""
    yield f"request: about {request.prompt_tokens} tokens{answer}{needs}{', streamed' if request.is_stream else ''}"
    for name, value in request.hints.items():
        yield f"hint: {name}: {value}"
    yield from _policies(explanation)
    for number, found in enumerate(explanation.rounds, 1):
        yield ""
        if len(explanation.rounds) > 1:
            yield f"round {number}{f', after {found.tries} tries' if found.tries > 1 else ''}"
        yield from _round(found)
    if explanation.why_not:
        yield ""
        width = max(MIN_NAME_WIDTH, *(len(reason.backend) for reason in explanation.why_not))
        yield from (f"why not {reason.backend:<{width}}  {reason.why}" for reason in explanation.why_not)
    yield from _outcome(explanation)


def _policies(explanation: Explanation) -> Iterator[str]:
    if not explanation.policies:
        yield "policies: none applies"
    for policy in explanation.policies:
        keys = "".join(f"  {plugin}: {_json(said)}" for plugin, said in policy.keys.items())
        alone = "" if policy.fallback_allowed else "  no fallback"
        yield f"policy {policy.index}: {policy.model_pattern}{alone}{keys}"


def _round(found: RoundReport) -> Iterator[str]:
    for position, model in enumerate(found.models):
        also = f" (resolves to {model.resolved})" if model.resolved != model.requested else ""
        yield f"{'fallback ' if position else ''}{model.requested}{also}"
        yield f"  candidates: {', '.join(model.candidates) or 'none'}"
        width = max((len(note.backend) for note in model.notes), default=0)
        yield from (f"    {note.backend:<{width}}  {note.text}" for note in model.notes)
        yield from _model(model)
    yield _decision(found.decision)
    yield from (f"  what would help: {action}" for action in found.decision.helps)


def _model(model: ModelReport) -> Iterator[str]:
    for stage in model.stages:
        yield from _stage(stage)
    tells_shares = len({choice.share for choice in model.ranking}) > 1
    yield from (_choice(choice, tells_share=tells_shares) for choice in model.ranking)


def _stage(stage: StageReport) -> Iterator[str]:
    said = [
        *(f"excludes {r.backend}: {r.reason}{_advice(r.suggested_action)}" for r in stage.excluded),
        *(f"avoids {r.backend}: {r.reason}{_advice(r.suggested_action)}" for r in stage.avoided),
        *(f"weighs {r.backend} by {r.factor:.3g}: {r.reason}" for r in stage.weighed),
        *(f"would have excluded {r.backend}: {r.reason}" for r in stage.would_have),
    ]
    facts = [f"{name}: {_json(value)}" for name, value in (stage.facts or {}).items()]
    is_spared = stage.is_idle and not stage.microseconds
    took = "did not come to its end" if stage.microseconds is None else f"{stage.microseconds:g} us"
    observes = ", observes only" if stage.observes else ""
    silent = "  failed and was skipped, see the log" if stage.was_skipped else "  no objection"
    yield f"  {stage.priority:>4} {stage.stage} ({'idle' if is_spared else took}{observes}){'' if said else silent}"
    yield from (f"         {line}" for line in (*said, *facts))


def _choice(choice: Choice, *, tells_share: bool) -> str:
    parts = " + ".join(f"{part.name} {part.adds:g}" for part in choice.parts)
    factors = "".join(f" * {factor.factor:.3g} ({factor.stage})" for factor in choice.factors)
    state = "  cannot take it now" if choice.is_full else "  only as a last resort" if choice.is_avoided else ""
    share = f"  share {choice.share:g}" if tells_share else ""
    score = f"score {choice.score:.2f} = {f'({parts}){factors}' if factors else parts}"
    return f"  {choice.rank}. {choice.backend} as {choice.model}  {score}{share}{state}"


def _decision(decision: DecisionReport) -> str:
    match decision.decision:
        case "route":
            full = f"; could not take it: {', '.join(decision.full)}" if decision.full else ""
            lost = f" without {', '.join(decision.untranslated)}" if decision.untranslated else ""
            how = f", translated {decision.translated}{lost}" if decision.translated else ""
            why = f"{decision.route_reason}, {decision.reason}{how}"
            return f"route: {decision.backend} as {decision.model} ({why}){full}"
        case "queue":
            wait = "" if decision.wait is None else f"; {_wait(decision.wait)}"
            return f"queue: waits for {' or '.join(decision.full)}{wait}"
        case "reject":
            return f"reject: {decision.status} {decision.code}: {decision.message}"


def _wait(wait: WaitReport) -> str:
    assumed = "" if wait.is_measured else " if each backend takes one request per second"
    limit = "" if wait.limit_s is None else f", for {wait.limit_s:g} s at most ({wait.limited_by})"
    expected = f"a wait of about {wait.expected_wait_s:.3g} s{assumed}"
    return f"place {wait.position} at {wait.priority} priority, {expected}{limit}"


def _outcome(explanation: Explanation) -> Iterator[str]:
    outcome = explanation.outcome
    if outcome is None:
        return
    yield ""
    code = f" {outcome.code}" if outcome.code else ""
    yield f"outcome: {outcome.status}{code}, {outcome.ending} after {outcome.duration_ms:g} ms"
    if outcome.translated is not None:
        lost = f", without {', '.join(outcome.untranslated)}" if outcome.untranslated else ""
        yield f"  translated {outcome.translated}{lost}"
    for attempt in outcome.attempts:
        fault = f", {attempt.fault}" if attempt.fault else ""
        yield f"  {attempt.backend} as {attempt.model}: {attempt.ending}{fault} after {attempt.duration_ms:g} ms"


def _advice(action: str) -> str:
    return f" ({action})" if action else ""


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
