"""What is known of the load of a candidate, as JSON values and in words."""

from collections.abc import Mapping
from typing import Any, Final

from nexus.domain.backend import Backend
from nexus.domain.capacity import capacity_of

NOTICEABLE: Final = 0.05


def load_facts(backend: Backend, model: str, busy: float, now: float) -> Mapping[str, Any]:
    """Return the requests and tokens in flight, what the engine reports, and what follows for the ranking.

    :param model: the backend's own name for it.
    :param busy: with how many requests the backend counts as busy.
    """
    load, report, capacity = backend.load, backend.load.told, capacity_of(backend, model, now)
    return {
        "in_flight": load.in_flight,
        "elsewhere": load.elsewhere.in_flight,
        "prompt_tokens": load.prompt_tokens,
        "answer_tokens": load.answer_tokens,
        "report": _report_in_words(backend, now),
        "report_age_s": None if report is None else round(now - report.at, 1),
        "of_other_clients": 0.0 if report is None else round(report.other_requests(now), 2),
        "busy": round(busy, 2),
        "capacity": None if capacity.requests is None else round(capacity.requests, 1),
        "capacity_source": capacity.source,
        "held_from": capacity.held_from,
        "max_in_flight": backend.max_in_flight,
    }


def load_sentence(backend: Backend, model: str, busy: float, now: float) -> str:
    """Return the same in one line."""
    load = backend.load
    own = f"{requests(load.in_flight)} in flight"
    if load.elsewhere.in_flight:
        own += f" here, {load.elsewhere.in_flight} at other workers or replicas"
    if load.prompt_tokens or load.answer_tokens:
        own += f" (about {load.prompt_tokens} prompt and {load.answer_tokens} answer tokens)"
    counts = f"; counts as {busy:.3g} requests" if abs(busy - load.everywhere) > NOTICEABLE else ""
    capacity = capacity_of(backend, model, now)
    limit = f"at most {backend.max_in_flight}, {capacity.in_words()}"
    if capacity.held_from is not None:
        limit += f", and from {capacity.held_from} on, further ones wait in the queue of Nexus"
    return f"{own}, {limit}; {_report_in_words(backend, now)}{counts}"


def requests(count: int) -> str:
    """Return *count* with its noun."""
    return "1 request" if count == 1 else f"{count} requests"


def _report_in_words(backend: Backend, now: float) -> str:
    if backend.load.told is None and not backend.kind.load_lookups:
        return "no report, only requests of Nexus count (servers of this kind do not report their load)"
    return backend.load.report_in_words(now)
