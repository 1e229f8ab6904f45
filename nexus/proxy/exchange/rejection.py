"""Turns a failure into the error that the client is told: of routing, of the queue, or of the last backend."""

import json
from collections.abc import Iterable, Mapping, Sequence
from math import ceil
from typing import Final

from nexus.domain.backend import Backend
from nexus.domain.outcome import AttemptOutcome, Phase
from nexus.domain.statuses import StatusMeaning, meaning_of
from nexus.error_codes import CODE_OF_BACKEND_STATUS, CODES, CODES_OF_FAULT
from nexus.errors import RequestError, UpstreamError
from nexus.routing.decision import Reject
from nexus.routing.intent import Verdict
from nexus.routing.rejections import decisive, reason_as_json, shortened, what_would_help

RETRY_AFTER_S: Final = 5
"""After how many seconds another try makes sense when the backend does not say."""
MAX_DETAILS: Final = 10
MAX_DETAIL: Final = 100
"""Characters of each text, of which every one may take twelve bytes."""
MAX_DETAIL_BYTES: Final = 2048
"""Some proxies take 4 KiB for the whole head of a reply, and no more."""


def rejection(reject: Reject) -> RequestError:
    """Return the error for a request that routing rejects."""
    verdict = decisive(reject)
    param = reject.param
    if param is None and reject.code in ("model_not_found", "protocol_not_supported"):
        param = "model"
    return RequestError(
        reject.code,
        reject.message,
        param=param or None,
        context=reject.context,
        retry_after_s=reject.retry_after_s,
        headers=reason_headers(reject.reasons),
        stage=(reject.context or {}).get("stage") if verdict is None else verdict.stage,
        reason=reject.message if verdict is None else verdict.reason,
    )


def error_of(exc: UpstreamError, *, retry_after_s: float | None = None) -> RequestError:
    """Return the error for a request whose last attempt failed with *exc*.

    :param retry_after_s: for how long the backend asks to be left alone; None when it does not.
    """
    if exc.status is not None and meaning_of(exc.status) is StatusMeaning.CREDENTIALS:
        return RequestError("backend_auth", "the backend refused the proxy's credentials; the operator must mend that")
    code = CODE_OF_BACKEND_STATUS.get(exc.status or 0, CODES_OF_FAULT[exc.fault].before)
    wait_s = None
    if CODES[code].retry == "soon":
        wait_s = RETRY_AFTER_S if retry_after_s is None else max(1, ceil(retry_after_s))
    return RequestError(code, f"the backend could not answer: {exc}", retry_after_s=wait_s)


def add_reasons(error: RequestError, reasons: Sequence[Verdict], backends: Iterable[Backend]) -> None:
    """Add to *error* why each backend did not answer and what would help, unless it says that already.

    :param backends: the whole fleet.
    """
    context = error.context
    if context is None or context.keys() == {"queue"}:
        error.context = {**what_would_help(reasons, backends), **(context or {})}
        error.headers = {**(error.headers or {}), **reason_headers(reasons)}


def as_verdict(failed: AttemptOutcome) -> Verdict:
    """Return a failed attempt as a reason among those of the stages."""
    status = f" with status {failed.status}" if failed.status else ""
    return Verdict(failed.backend, "attempt", f"It was asked and failed{status}: {failed.fault or failed.ending}")


def rejecting_stage(exc: RequestError, phase: Phase) -> str | None:
    """Return the stage that refused a request with *exc*, or ``queue``; None when no stage did."""
    if CODES[exc.code].ending not in ("rejected", "bad_request", "timed_out"):
        return None
    if exc.stage is not None:
        return exc.stage
    return "queue" if phase == "queue" or (phase == "route" and exc.code == "overloaded") else None


def reason_headers(reasons: Sequence[Verdict]) -> Mapping[str, str]:
    """Return the headers of a rejection that tell *reasons*, short enough for any proxy in front of this one."""
    if not reasons:
        return {}
    stages = sorted({verdict.stage for verdict in reasons})
    count = len({verdict.backend for verdict in reasons})
    return {
        "X-Nexus-Rejection-Reasons": ascii_only(shortened(f"{count} agents rejected by {', '.join(stages)}")),
        "X-Nexus-Rejection-Details": _details(reasons),
    }


def _details(reasons: Sequence[Verdict]) -> str:
    """Return as many of *reasons* as there is room for, as JSON in which all but ASCII is escaped."""
    told: list[str] = []
    room = MAX_DETAIL_BYTES
    for verdict in reasons[:MAX_DETAILS]:
        one = json.dumps({name: shortened(text, MAX_DETAIL) for name, text in reason_as_json(verdict).items()})
        room -= len(one) + len(", ")
        if room < 0:
            break
        told.append(one)
    return f"[{', '.join(told)}]"


def ascii_only(text: str) -> str:
    """Return *text* as a header may hold it: all but visible ASCII is replaced by ``?``."""
    return "".join(c if " " <= c <= "~" else "?" for c in text)
