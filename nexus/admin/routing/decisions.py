"""Answers ``/v1/route/decisions``: the last requests and the routing decision for each."""

import heapq
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from operator import attrgetter
from typing import Final, Literal
from urllib.parse import parse_qsl, unquote

import msgspec

from nexus.admin.openapi.operation import MODEL_FILTER, DescribedRoute, Operation, Parameter, limit
from nexus.admin.page import json_page
from nexus.admin.parts import Asking
from nexus.domain.outcome import Result
from nexus.domain.routes import Page, PageRequest
from nexus.errors import RequestError, did_you_mean
from nexus.routing.decision import Reserved
from nexus.routing.decision_record import MAX_RECORDS, DecisionRecord, RecentDecisions
from nexus.routing.explain.build import as_explanation, decided
from nexus.routing.explain.model import Explanation
from nexus.workers.peers import Peers

DECISIONS_PATH: Final = "/v1/route/decisions"
DEFAULT_LIMIT: Final = 50
DECISIONS: Final = ("route", "queue", "reject")


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One request in the list."""

    id: str
    """Its request id; ``/v1/route/decisions/{id}`` has all of it."""
    client_request_id: str | None
    """The ``X-Request-Id`` that the client sent; null when it sent none."""
    received_at: datetime
    """When the request was received, UTC."""
    model: str
    """As the client sent it."""
    endpoint: str
    """The name of the endpoint."""
    is_stream: bool
    """Whether the client asked for a stream."""
    decision: Literal["route", "queue", "reject"]
    """The last decision; ``queue`` when the request is queued, or its wait ended without a backend."""
    backend: str | None
    """The backend of the last attempt."""
    fallback_model: str | None
    """``X-Nexus-Fallback-Model``."""
    route_reason: str | None
    """``X-Nexus-Route-Reason``."""
    rounds: int
    """One, plus one for each attempt that failed."""
    status: int | None
    """The status that the client got; null while the request is running."""
    code: str | None
    """The error code; null when there was none."""
    ending: str | None
    """As in the access line (:doc:`logs`)."""
    result: str | None
    """The result, as in the history (:doc:`endpoints`); null while the request is running."""
    rejected_by: str | None
    """The stage that refused it, or ``queue``; null when no stage did."""
    duration_ms: float | None
    """From the first byte of the request to the end of the response."""


class Listing(msgspec.Struct, frozen=True):
    """The body of ``/v1/route/decisions``."""

    decisions: tuple[Row, ...]
    """Newest first."""
    kept: int
    """How many decisions this client could see without filters; the newest thousand of all clients are kept."""


class Asked(msgspec.Struct, frozen=True, array_like=True):
    """The parts of a request that other workers need."""

    path: str
    query: str
    sees_all: bool
    key_digest: bytes


def routes(recent: RecentDecisions, peers: Peers | None = None) -> tuple[DescribedRoute, DescribedRoute]:
    """Return the list of decisions, and the page of one, with those of *peers*."""
    listing = Asking(peers, "page.decisions", Asked, Listing, partial(found_decisions, recent))
    one = Asking(peers, "page.decision", Asked, bytes, partial(found_decision, recent))

    async def respond_list(request: PageRequest) -> Page:
        most, _ = _parse_query(request.query)
        parts = await listing(_asked(request))
        return json_page(merge(parts.present, most) if parts.others else parts.own, headers=parts.headers)

    async def respond_one(request: PageRequest) -> Page:
        asked = _asked(request)
        if own := found_decision(recent, asked):
            return _page_of(own, {})
        parts = await one(asked)
        return _page_of(next(filter(None, parts.present), b""), parts.headers)

    return (
        DescribedRoute(
            path=DECISIONS_PATH,
            respond=respond_list,
            operation=Operation(
                summary="What was decided about the last requests, newest first",
                answers=(Listing,),
                refusals=(400,),
                query=(
                    MODEL_FILTER,
                    Parameter("backend", "The name of the backend of the last attempt."),
                    Parameter(
                        "status", "What the client was sent.", {"type": "integer", "minimum": 100, "maximum": 599}
                    ),
                    Parameter("decision", "What was decided last.", {"enum": list(DECISIONS)}),
                    limit(MAX_RECORDS),
                ),
            ),
        ),
        DescribedRoute(
            path=f"{DECISIONS_PATH}/",
            respond=respond_one,
            operation=Operation(
                summary="All about one decision",
                answers=(Explanation,),
                refusals=(404,),
                below=(
                    Parameter(
                        "id",
                        "The id that Nexus gave the request: request_id in the log, X-Nexus-Decision-Id of the answer.",
                    ),
                ),
            ),
        ),
    )


def found_decisions(recent: RecentDecisions, asked: Asked) -> Listing:
    """Return the decisions of this process that are *asked* for.

    :raises RequestError: the query has an unknown filter or an invalid value.
    """
    most, filters = _parse_query(asked.query)
    visible = [record for record in recent if _may_see(record, asked)]
    found = (record for record in visible if record.rounds and all(accepts(record) for accepts in filters))
    return Listing(tuple(map(_row, islice(found, most))), len(visible))


def merge(listings: Sequence[Listing], most: int) -> Listing:
    """Return the newest decisions of several workers, at most *most*."""
    newest = heapq.merge(*(each.decisions for each in listings), key=attrgetter("received_at"), reverse=True)
    return Listing(tuple(islice(newest, most)), sum(each.kept for each in listings))


def _parse_query(query: str) -> "tuple[int, list[Filter]]":
    most, filters = DEFAULT_LIMIT, []
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name == "limit":
            most = _number(name, value, 1, MAX_RECORDS)
        elif name in FILTERS:
            filters.append(FILTERS[name](value))
        else:
            raise _invalid(name, f"'{name[:100]}' is not a filter{did_you_mean(name, (*FILTERS, 'limit'))}")
    return most, filters


def _asked(request: PageRequest) -> Asked:
    return Asked(request.path, request.query, request.sees_all, request.key_digest)


def _may_see(record: DecisionRecord, asked: Asked) -> bool:
    """Whether this client may see *record*, by the API key of both requests."""
    return asked.sees_all or record.request.key_digest == asked.key_digest


def found_decision(recent: RecentDecisions, asked: Asked) -> bytes:
    """Return the JSON of the decision that is *asked* for; empty: none is kept, or another key made the request."""
    record = recent.find(unquote(asked.path.removeprefix(f"{DECISIONS_PATH}/")))
    if record is None or not record.rounds or not _may_see(record, asked):
        return b""
    return msgspec.json.encode(as_explanation(record))


def _page_of(explanation: bytes, headers: Mapping[str, str]) -> Page:
    if not explanation:
        # The same text as for the decision of another key, so that a client cannot learn that it exists.
        raise RequestError(
            "not_found",
            f"no decision with this id is kept for this key; the last {MAX_RECORDS} are kept, by the id that Nexus gave"
            " them",
        )
    return json_page(msgspec.Raw(explanation), headers=headers)


def _row(record: DecisionRecord) -> Row:
    request, outcome, reserved = record.request, record.outcome, record.last_reserved
    return Row(
        id=request.id,
        client_request_id=request.client_request_id or None,
        received_at=datetime.fromtimestamp(request.received_unix_s, UTC),
        model=request.requirements.model,
        endpoint=request.endpoint.name,
        is_stream=request.requirements.is_stream,
        decision=decided(record.rounds[-1].decision),
        backend=reserved.backend.name if reserved else None,
        fallback_model=reserved.fallback_model if reserved else None,
        route_reason=reserved.route_reason if reserved else None,
        rounds=len(record.rounds),
        status=outcome.status if outcome else None,
        code=outcome.code if outcome else None,
        ending=outcome.ending if outcome else None,
        result=outcome.result if outcome else None,
        rejected_by=outcome.rejected_by if outcome else None,
        duration_ms=round(outcome.duration_s * 1000, 3) if outcome else None,
    )


Filter = Callable[[DecisionRecord], bool]


def _of_model(value: str) -> Filter:
    return lambda record: any(
        value in (model.resolution.requested, model.resolution.model)
        for found in record.rounds
        for model in found.models
    )


def _of_backend(value: str) -> Filter:
    return lambda record: any(
        isinstance(found.decision, Reserved) and found.decision.backend.name == value for found in record.rounds
    )


def _of_status(value: str) -> Filter:
    status = _number("status", value, 100, 599)
    return lambda record: record.outcome is not None and record.outcome.status == status


def _of_result(value: str) -> Filter:
    if value not in set(Result):
        raise _invalid("result", f"'result' is one of {', '.join(Result)}{did_you_mean(value[:100], Result)}")
    return lambda record: record.outcome is not None and record.outcome.result == value


def _of_decision(value: str) -> Filter:
    if value not in DECISIONS:
        raise _invalid("decision", f"'decision' is one of {', '.join(DECISIONS)}")
    return lambda record: decided(record.rounds[-1].decision) == value


FILTERS: Final[Mapping[str, Callable[[str], Filter]]] = {
    "model": _of_model,
    "backend": _of_backend,
    "status": _of_status,
    "decision": _of_decision,
    "result": _of_result,
    "client_request_id": lambda value: lambda record: record.request.client_request_id == value,
}
"""By query parameter."""


def _number(name: str, value: str, least: int, most: int) -> int:
    if not (value.isascii() and value.isdecimal() and len(value) < 6 and least <= int(value) <= most):
        raise _invalid(name, f"'{name}' is a number from {least} to {most}")
    return int(value)


def _invalid(name: str, message: str) -> RequestError:
    return RequestError("invalid_value", message, param=name[:100])
