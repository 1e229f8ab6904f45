"""Moves a request that waits at a silent backend to another one, before its client gives up."""

from math import inf
from typing import TYPE_CHECKING, Final

import structlog

from nexus.domain.backend import Breaker
from nexus.domain.outcome import AttemptOutcome, Ending
from nexus.domain.silence import overdue_at
from nexus.domain.statuses import FIRST_ERROR
from nexus.error_codes import UpstreamFault
from nexus.errors import UpstreamError

if TYPE_CHECKING:
    from nexus.proxy.exchange.attempt import Attempt
    from nexus.proxy.exchange.failover import Failover
    from nexus.proxy.exchange.response import Response

LOOK_S: Final = 0.5
"""How soon to look again while the backend is not overdue, or no other one is free."""

log = structlog.get_logger("nexus.proxy")


def look_for_other_backend(failover: "Failover", attempt: "Attempt", response: "Response", now: float) -> float:
    """End the wait for *response*, and reserve another backend, if its own is silent; return when to look again.

    Nothing of the answer has gone to the client, the request may be repeated, and the backend is told to stop: its
    connection is closed. A request moves once at most, and never to a backend that is avoided.
    """
    if not attempt.asks_model or response.ready.done():
        return inf
    if not failover.retries.may_move(attempt.backend, now):
        return now + LOOK_S
    snapshot = failover.plane.fleet.snapshot
    backend = snapshot.by_id.get(attempt.backend.id, attempt.backend)
    due_at = overdue_at(
        backend,
        attempt.reserved.model,
        attempt.waits_since,
        failover.routing.record.rivals_of(attempt.reserved),
        now,
        is_stream=attempt.wants_stream,
        max_tokens=attempt.max_tokens,
    )
    if due_at is None:
        return now + LOOK_S
    if due_at > now:
        # Answers of other backends may make it due sooner.
        return min(due_at, now + LOOK_S)
    successor = failover.routing.another(snapshot)
    if successor is None:
        return now + LOOK_S
    failover.retries.move(now)
    if attempt.figures is not None:
        attempt.figures.move(attempt.waits_since, is_stream=attempt.wants_stream)
        if backend.breaker_of(attempt.reserved.model) is not Breaker.CLOSED:
            attempt.figures.tries += 1
    failover.successor = successor
    silent_s = round(attempt.silent_s(now), 1)
    log.info(
        "request_moved",
        request_id=failover.record.request_id,
        backend=backend.name,
        to=successor.backend.name,
        silent_s=silent_s,
    )
    message = f"no answer for {silent_s} s, and another backend was free"
    response.give_up_waiting(UpstreamError(UpstreamFault.SILENT, message))
    return inf


def is_undecided(failover: "Failover", attempt: "Attempt", outcome: AttemptOutcome) -> bool:
    """Return whether it is still open if *attempt*, which has ended with *outcome*, is a failure of its backend.

    A whole answer that does not arrive may only be a long one. The silent backend has failed if the next one answers in
    less time than that, and the silent one has answered nothing meanwhile: the failure is reported here.
    """
    if outcome.fault == UpstreamFault.SILENT and not outcome.wants_stream:
        failover.moved = attempt
        return True
    moved, failover.moved = failover.moved, None
    if moved is not None and moved.outcome is not None and _is_outrun(moved, moved.outcome, outcome):
        failover.plane.fleet.report(moved.backend.id, moved.outcome, retry_after_s=None)
    return False


def _is_outrun(moved: "Attempt", silence: AttemptOutcome, response: AttemptOutcome) -> bool:
    is_good = response.ending is Ending.FINISHED and (response.status or FIRST_ERROR) < FIRST_ERROR
    has_shown_life = moved.figures is not None and moved.figures.alive_at > moved.started_at + silence.duration_s
    return is_good and response.duration_s < silence.silent_s and not has_shown_life
