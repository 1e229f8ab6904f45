"""Lets a request wait in the queue for a slot, when every backend that could answer is at its limit."""

import asyncio
from collections.abc import Hashable
from math import isfinite
from time import monotonic
from typing import TYPE_CHECKING, Final

import structlog
from msgspec.structs import replace

from nexus.domain.priorities import rank_of
from nexus.domain.shared_load import Allotment
from nexus.errors import RequestError
from nexus.proxy.exchange import judging
from nexus.proxy.exchange.rejection import add_reasons, rejection
from nexus.proxy.waiting.claim import Claim, Given, Unmet
from nexus.routing.decision import Reject, Reserved, Saturated
from nexus.routing.rejections import overload, saturation

if TYPE_CHECKING:
    from nexus.proxy.exchange.failover import Failover

NOT_FOR_ROUTING: Final = frozenset({"x-nexus-explain", "x-nexus-queue-timeout"})
"""Hints that make no difference to which backends can answer."""

OF_THE_QUEUE: Final = frozenset({"overloaded", "queue_full", "queue_timeout"})
"""The errors of a request that may not wait, or not any longer."""

DRAW_S: Final = 0.1
"""How long a request that may not wait gives the broker to find a slot at another process; it takes a millisecond."""
DRAW_AGAIN_S: Final = 0.004

log = structlog.get_logger("nexus.proxy")


async def wait_for_slot(failover: "Failover", saturated: Saturated) -> Reserved:
    """Wait until a backend has a slot for the request, and return what was reserved.

    :raises RequestError: it may not wait, or not any longer, or no backend can answer any more.
    """
    began = monotonic()
    try:
        return await _wait(failover, saturated)
    except RequestError as exc:
        if exc.code in OF_THE_QUEUE:
            routing = failover.routing
            insistent = replace(routing.request.requirements, may_wait=False)
            routing.request = replace(routing.request, requirements=insistent)
            found = await _draw(failover, until=began + DRAW_S)
            if isinstance(found, Reserved):
                # There was a slot, and it only waited for a better moment, as for a model in use to become idle.
                return found
        reasons = (*judging.failures_of(failover), *saturation(saturated))
        add_reasons(exc, reasons, failover.plane.fleet.snapshot.backends)
        raise


async def _draw(failover: "Failover", *, until: float) -> Reserved | Saturated | Reject:
    """Return what routing finds now, or once the broker of all processes has had the time to find a slot."""
    while True:
        found = failover.routing.next(failover.plane.fleet.snapshot)
        short = _short_parts(found) if isinstance(found, Saturated) else ()
        if not short or monotonic() >= until:
            return found
        for part in short:
            part.drawing += 1
        try:
            await asyncio.sleep(DRAW_AGAIN_S)
        finally:
            for part in short:
                part.drawing -= 1


def _short_parts(saturated: Saturated) -> tuple[Allotment, ...]:
    """Return the allotments without a free slot, of backends whose limit may not be reached."""
    return tuple(
        part
        for backend in saturated.backends
        if backend.load.in_flight < backend.max_in_flight
        for part in backend.load.allotments.values()
        if not part.has_room
    )


async def _wait(failover: "Failover", saturated: Saturated) -> Reserved:
    if not failover.settings.config.queue.enabled:
        raise RequestError("overloaded", overload(saturated), retry_after_s=1)
    failover.record.enter_queue()
    unmet = _unmet(failover, saturated)
    log.debug("exchange_queued", request_id=failover.record.request_id, backends=sorted(unmet.backends))

    def reserve_now() -> Given[Reserved] | Unmet:
        found = failover.routing.next(failover.plane.fleet.snapshot)
        if isinstance(found, Reject):
            raise rejection(judging.with_failures(failover, found))
        if isinstance(found, Saturated):
            return _unmet(failover, found)
        backend = found.backend
        return Given(found, backend.name, has_room=backend.load.has_slot(backend.max_in_flight))

    def give_back(reserved: Reserved) -> None:
        failover.give_back(reserved)
        # It was given in the moment in which the wait ended, so the request may still be sent there.
        failover.routing.give_back(reserved)

    return await failover.plane.queue.wait(
        _claim(failover, saturated),
        unmet,
        reserve_now,
        give_back=give_back,
        left_s=failover.deadline - monotonic(),
        own_limit_s=longest_wait_s(failover.request.head.hints.get("x-nexus-queue-timeout", "")),
    )


def longest_wait_s(asked: str) -> float | None:
    """Return the seconds of ``X-Nexus-Queue-Timeout``; None when they are no number from 0 on."""
    try:
        seconds = float(asked)
    except ValueError:
        return None
    return abs(seconds) if isfinite(seconds) and seconds >= 0 and "_" not in asked else None


def _claim(failover: "Failover", saturated: Saturated) -> Claim:
    request, wanted, best = failover.request, failover.requirements, saturated.backends[0]
    client = request.access.client_of(request.key_digest, request.remote)
    size = best.load.model(best.own_name(saturated.resolved_model)).size
    return Claim(
        client=client.id,
        label=client.label,
        rank=rank_of(request.head.hints.get("x-nexus-priority", ""), client.max_priority),
        tokens=sum(size.expected(wanted, is_chat=request.endpoint.capability == "chat")),
        size_bytes=len(failover.body),
        model=saturated.resolved_model,
        kind=_kind(failover),
    )


def _kind(failover: "Failover") -> Hashable:
    """Return all that routing knows of the request, except its size and its client."""
    wanted = failover.requirements
    return (
        failover.request.endpoint.name,
        wanted.model,
        wanted.is_stream,
        wanted.needs_vision,
        wanted.needs_tools,
        wanted.needs_json,
        wanted.needs_embeddings,
        *(hint for hint in failover.request.head.hints.items() if hint[0] not in NOT_FOR_ROUTING),
        None if failover.kept is None else failover.kept.backend,
        *(attempt.backend.name for attempt in failover.attempts),
    )


def _unmet(failover: "Failover", saturated: Saturated) -> Unmet:
    """Return what the request waits for.

    A stage of a plugin may judge by the size of the prompt, or by the client: its verdicts hold for one request only.
    """
    built_in = failover.settings.router.built_in
    wanted = failover.routing.request.requirements
    is_general = not (wanted.prompt_token_ids or wanted.refused_context or wanted.is_refused_unknown) and all(
        verdict.stage in built_in for verdict in saturation(saturated)
    )
    return Unmet(frozenset(backend.name for backend in saturated.backends), is_general, saturated.retry_in_s)
