"""Decides whether the outcome of an attempt counts for or against its backend."""

import math
from collections.abc import Mapping
from typing import Final, Literal

from nexus.domain.kinds import BackendKind
from nexus.domain.outcome import AttemptOutcome, Ending
from nexus.domain.silence import MIN_SILENCE_S
from nexus.domain.statuses import StatusMeaning, meaning_of
from nexus.error_codes import UpstreamFault

MAX_COOLING_S: Final = 300.0


Evidence = Literal["good", "bad", "refused", "none"]
"""What an attempt proves about its backend.

``refused``: nothing listens there. ``none``: the request, the client or the load was at fault, or the cause is unknown.
"""

_FAULTS: Final[Mapping[str, Evidence]] = {
    UpstreamFault.REFUSED: "refused",
    UpstreamFault.CONNECT_TIMEOUT: "bad",
    UpstreamFault.TLS: "bad",
    UpstreamFault.RESET: "bad",
    UpstreamFault.PROTOCOL: "bad",
    UpstreamFault.TRUNCATED: "bad",
    UpstreamFault.FIRST_BYTE_TIMEOUT: "bad",
    UpstreamFault.SILENT: "bad",
    "stream_truncated": "bad",
    "stream_stalled": "bad",
}
"""The faults that count by themselves; a stale connection proves nothing, so it is not among them."""

_OF_THE_SERVER: Final = frozenset({UpstreamFault.REFUSED, UpstreamFault.CONNECT_TIMEOUT, UpstreamFault.TLS})
"""Faults that occur before a model is involved."""

_OUT_OF_PATIENCE: Final = frozenset({Ending.CLIENT_LEFT, Ending.TIMED_OUT})

INTERNAL_ERROR: Final = 500
_BUSY_STATUSES: Final = frozenset({429, 503})
_JUDGED_BY_STATUS: Final = frozenset({UpstreamFault.STATUS, UpstreamFault.IN_STREAM_ERROR})


def weigh(
    outcome: AttemptOutcome, kind: BackendKind, *, cooling_s: float | None, patience_s: float = MIN_SILENCE_S
) -> Evidence:
    """Return what *outcome* proves about a backend of *kind*.

    :param cooling_s: the result of :func:`cooling_of`.
    :param patience_s: the longest silence of the backend that is still normal.
    """
    ending = outcome.ending
    if ending in _OUT_OF_PATIENCE and outcome.is_sent and outcome.silent_s > patience_s:
        # When clients give up before the proxy does, silence is the only sign of a backend that hangs.
        return "bad"
    if ending is not Ending.FINISHED and ending is not Ending.BACKEND_FAILED:
        return "none"
    if outcome.fault is not None and outcome.fault not in _JUDGED_BY_STATUS:
        return _FAULTS.get(outcome.fault, "none")
    status = outcome.status
    if status is None or cooling_s is not None:
        return "none"
    if status == INTERNAL_ERROR and kind.has_unreliable_500:
        return "none"
    match meaning_of(status):
        case StatusMeaning.FAILED:
            return "bad"
        case StatusMeaning.ANSWER if ending is Ending.FINISHED:
            return "good"
    return "none"


def concerns_all_models(fault: str | None) -> bool:
    """Return whether *fault* certainly concerns the whole server and not only the requested model."""
    return fault in _OF_THE_SERVER


def cooling_of(outcome: AttemptOutcome, retry_after_s: float | None) -> float | None:
    """Return for how long the backend asks for no requests; None if it does not ask, or for an invalid time."""
    if retry_after_s is None or outcome.status not in _BUSY_STATUSES:
        return None
    if not math.isfinite(retry_after_s) or retry_after_s < 0:
        return None
    return min(retry_after_s, MAX_COOLING_S)
