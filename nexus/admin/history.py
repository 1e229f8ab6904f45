"""The last exchanges with their results (``/v1/history``)."""

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from math import isnan
from operator import itemgetter
from typing import Final
from urllib.parse import parse_qsl

import msgspec

from nexus.admin.openapi.operation import MODEL_FILTER, DescribedRoute, Operation, Parameter, limit
from nexus.admin.page import json_page
from nexus.admin.parts import Asking
from nexus.domain.outcome import AttemptOutcome, Ending, ExchangeOutcome, Result
from nexus.domain.routes import Page, PageRequest
from nexus.domain.statuses import FIRST_ERROR
from nexus.errors import RequestError, did_you_mean
from nexus.workers.peers import Peers

_FINISHED: Final = Ending.FINISHED
"""Kept here: up to Python 3.11, each look at a member through its class takes as long as a call."""

MAX_ENTRIES: Final = 1_000
"""The newest exchanges with any result."""
MAX_ENTRIES_PER_RESULT: Final = 250
"""The newest exchanges of each result but ``finished``: a flood of one result does not evict the others."""
DEFAULT_ENTRIES: Final = 100
MAX_NAME_CHARS: Final = 256
MAX_MESSAGE_CHARS: Final = 1_024

# gc=False below: these contain only texts and numbers, so they cannot be part of a cycle.


class TriedBackend(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One attempt of an exchange."""

    backend: str
    model: str
    """The model's name in the request to the backend."""
    duration_ms: int
    status: int | None
    """The status of the backend; null when it sent none."""
    fault: str | None = None
    """Why it failed."""


class HistoryEntry(msgspec.Struct, frozen=True, gc=False):
    """One exchange."""

    timestamp: int
    """When its first byte was received, in Unix seconds."""
    request_id: str
    """Also the id of its decision."""
    client_request_id: str | None
    """The client's ``X-Request-Id``; null when it sent none."""
    endpoint: str
    model: str | None
    """As the client sent it, truncated; null when it could not be read."""
    actual_model: str | None
    """The model's name in the request to the last backend; null when there was none."""
    backend: str
    """The backend of the last attempt; ``none`` without an attempt."""
    backend_id: str
    status: str
    """``Success`` when the whole response was sent and is no error, else ``Error``."""
    status_code: int
    code: str | None
    error_message: str | None
    result: str
    """A member of :class:`nexus.domain.outcome.Result`."""
    rejected_by: str | None
    """The stage that rejected the request, or ``queue``; null when none did."""
    rejected_because: str | None
    ending: str
    phase: str
    stream: bool
    route_reason: str | None
    fallback_model: str | None
    translated: str | None
    """The protocols of client and backend, if they differed."""
    attempts: tuple[TriedBackend, ...]
    duration_ms: int
    queued_ms: int
    ttft_ms: float | None
    """Time to the first content; null when the response was not streamed or had none."""
    tokens_prompt: int | None
    tokens_completion: int | None
    tokens_estimated: bool
    """Whether both are estimates, because the backend reported no usage."""
    cost_usd: float | None
    """The cost that the stages know; null when no stage knows one."""
    bytes_in: int
    bytes_out: int

    @property
    def is_success(self) -> bool:
        return self.status == "Success"


Numbered = tuple[int, HistoryEntry]


class _Ring:
    """The newest exchanges; entries are built on request, as most are never shown."""

    def __init__(self, most: int) -> None:
        self._entries: deque[Numbered] = deque(maxlen=most)
        self._new: deque[tuple[int, ExchangeOutcome]] = deque(maxlen=most)
        self.add: Final = self._new.append

    def newest_first(self) -> Iterator[Numbered]:
        self._entries.extend((number, entry_of(outcome)) for number, outcome in self._new)
        self._new.clear()
        return reversed(self._entries)


class History:
    """Observes every exchange; keeps the newest, and more of those that did not succeed."""

    def __init__(self, most: int = MAX_ENTRIES, most_of_a_result: int = MAX_ENTRIES_PER_RESULT) -> None:
        self._recent = _Ring(most)
        self._failed: Mapping[Result, _Ring] = {
            result: _Ring(most_of_a_result) for result in Result if result is not Result.FINISHED
        }
        self._newest = 0
        """The number of the newest exchange; they are counted from 1."""

    def observe(self, outcome: ExchangeOutcome) -> None:
        """Keep one exchange."""
        if outcome.model is not None and len(outcome.model) > MAX_NAME_CHARS:
            outcome = msgspec.structs.replace(outcome, model=outcome.model[: MAX_NAME_CHARS + 1])
        self._newest += 1
        numbered = self._newest, outcome
        self._recent.add(numbered)
        if outcome.ending is not _FINISHED or outcome.status >= FIRST_ERROR:
            self._failed[outcome.result].add(numbered)

    def __iter__(self) -> Iterator[HistoryEntry]:
        """Iterate over the entries, newest first."""
        rings = (self._recent, *self._failed.values())
        return (entry for _, entry in _newest_first(*(ring.newest_first() for ring in rings)))

    def after(self, number: int, most: int) -> tuple[int, list[HistoryEntry]]:
        """Return the number of the newest entry, and the entries after *number*, oldest first.

        :param most: the limit; each result other than success may add a quarter of it.
        """
        if most == 0 or number >= self._newest:
            return self._newest, []
        failed = (islice(ring.newest_first(), most // 4) for ring in self._failed.values())
        found = _newest_first(islice(self._recent.newest_first(), most), *failed)
        return self._newest, [entry for other, entry in reversed(found) if other > number]

    def found(self, query: str) -> list[HistoryEntry]:
        """Return the entries that *query* asks for, newest first. :raises RequestError: it is invalid."""
        filters, limit = _parse_query(query)
        found = (entry for entry in self if all(accepts(entry) for accepts in filters))
        return list(islice(found, limit))


_INSTANT: Final = {"anyOf": [{"type": "number"}, {"type": "string", "format": "date-time"}]}


def merge(parts: Iterable[Sequence[HistoryEntry]], most: int) -> list[HistoryEntry]:
    """Return the newest entries of several workers, at most *most*; those of each remain in their order."""
    return list(islice(heapq.merge(*parts, key=_ended_at, reverse=True), most))


def _ended_at(entry: HistoryEntry) -> float:
    return entry.timestamp + entry.duration_ms / 1000


def route(history: History, peers: Peers | None = None) -> DescribedRoute:
    """Return ``/v1/history``, with the exchanges of *peers*."""
    asking = Asking(peers, "page.history", str, list[HistoryEntry], history.found)

    async def respond(request: PageRequest) -> Page:
        _, most = _parse_query(request.query)
        parts = await asking(request.query)
        found = merge(parts.present, most) if parts.others else parts.own
        return json_page(found, headers=parts.headers)

    operation = Operation(
        summary="The last exchanges, newest first",
        answers=(tuple[HistoryEntry, ...],),
        refusals=(400,),
        query=(
            MODEL_FILTER,
            Parameter(
                "backend", "Name or id of the backend of the last attempt; none for requests without an attempt."
            ),
            Parameter(
                "status",
                "success, error, 2xx, 3xx, 4xx, 5xx, or a number.",
                {"type": "string", "pattern": "^(success|error|[2345]xx|[0-9]{3})$"},
            ),
            Parameter("since", "Unix seconds or RFC 3339.", _INSTANT),
            Parameter("until", "Unix seconds or RFC 3339.", _INSTANT),
            limit(MAX_ENTRIES),
        ),
    )
    return DescribedRoute(path="/v1/history", respond=respond, access="admin", operation=operation)


def _newest_first(*rings: Iterable[Numbered]) -> list[Numbered]:
    """Return the entries of all *rings*, each once."""
    found = {number: entry for ring in rings for number, entry in ring}
    return sorted(found.items(), key=itemgetter(0), reverse=True)


def entry_of(outcome: ExchangeOutcome) -> HistoryEntry:
    """Return the entry of one exchange."""
    last = outcome.attempts[-1] if outcome.attempts else None
    usage = outcome.usage
    result = outcome.result
    return HistoryEntry(
        int(outcome.received_at),
        outcome.request_id,
        outcome.client_request_id,
        outcome.endpoint,
        _truncated(outcome.model, MAX_NAME_CHARS),
        None if last is None else last.model,
        "none" if last is None else last.backend,
        "none" if last is None else last.backend_id,
        "Success" if result is Result.FINISHED else "Error",
        outcome.status,
        outcome.code,
        _truncated(outcome.error_message, MAX_MESSAGE_CHARS),
        result,
        outcome.rejected_by,
        _truncated(outcome.rejected_because, MAX_MESSAGE_CHARS),
        outcome.ending,
        outcome.phase,
        outcome.is_stream,
        outcome.route_reason,
        outcome.fallback_model,
        outcome.translated,
        tuple(map(_attempt, outcome.attempts)),
        round(outcome.duration_s * 1000),
        round(outcome.queued_s * 1000),
        round(outcome.first_byte_s * 1000, 1) if outcome.is_stream and outcome.first_byte_s else None,
        None if usage is None else usage.prompt_tokens,
        None if usage is None else usage.completion_tokens,
        usage is not None and usage.is_estimated,
        outcome.cost_usd,
        outcome.bytes_in,
        outcome.bytes_out,
    )


def _attempt(attempt: AttemptOutcome) -> TriedBackend:
    return TriedBackend(attempt.backend, attempt.model, round(attempt.duration_s * 1000), attempt.status, attempt.fault)


def _truncated(text: str | None, most: int) -> str | None:
    if text is None:
        return None
    truncated = text if len(text) <= most else f"{text[:most]}…"
    # A lone surrogate could not be encoded, and the whole page would fail.
    return truncated if truncated.isascii() else truncated.encode(errors="replace").decode()


Filter = Callable[[HistoryEntry], bool]


def _parse_query(text: str) -> tuple[list[Filter], int]:
    query = dict(parse_qsl(text, keep_blank_values=True))
    for name in query:
        if name not in _FILTERS and name != "limit":
            raise RequestError(
                "invalid_value", f"the query may have {', '.join((*_FILTERS, 'limit'))}", param=name[:64]
            )
    filters = [_FILTERS[name](text) for name, text in query.items() if name != "limit"]
    return filters, _parse_limit(query.get("limit", str(DEFAULT_ENTRIES)))


def _parse_limit(text: str) -> int:
    # Python refuses to parse numbers of some thousand digits.
    if not (text.isdecimal() and len(text) < 6) or not 1 <= int(text) <= MAX_ENTRIES:
        raise RequestError("invalid_value", f"limit is a number from 1 to {MAX_ENTRIES}", param="limit")
    return int(text)


def _has_model(name: str) -> Filter:
    return lambda entry: name in (entry.model, entry.actual_model)


def _has_backend(name: str) -> Filter:
    return lambda entry: name in (entry.backend, entry.backend_id)


def _has_status(text: str) -> Filter:
    wanted = text.lower()
    if wanted in ("success", "error"):
        return lambda entry: entry.status.lower() == wanted
    if wanted in ("2xx", "3xx", "4xx", "5xx"):
        return lambda entry: entry.status_code // 100 == int(wanted[0])
    if wanted.isdecimal() and len(wanted) == 3:
        return lambda entry: entry.status_code == int(wanted)
    raise RequestError("invalid_value", "status is success, error, 2xx, 4xx, 5xx or a number", param="status")


_NO_FAILURES: Final = frozenset({Result.FINISHED, Result.CLIENT_LEFT})


def _has_result(text: str) -> Filter:
    if text == "failure":
        return lambda entry: entry.result not in _NO_FAILURES
    wanted = frozenset(text.split(","))
    if unknown := sorted(wanted - set(Result)):
        known = ", ".join(("failure", *Result))
        hint = did_you_mean(unknown[0][:MAX_NAME_CHARS], Result)
        raise RequestError("invalid_value", f"result is one or several of {known}{hint}", param="result")
    return lambda entry: entry.result in wanted


def _is_since(text: str) -> Filter:
    instant = _parse_instant("since", text)
    return lambda entry: entry.timestamp >= instant


def _is_until(text: str) -> Filter:
    instant = _parse_instant("until", text)
    return lambda entry: entry.timestamp <= instant


def _parse_instant(param: str, text: str) -> float:
    """Parse Unix seconds, or an RFC 3339 instant, in UTC unless it names a zone."""
    try:
        unix_s = float(text)
    except ValueError:
        pass
    else:
        if isnan(unix_s):
            raise _invalid_instant(param)
        return unix_s
    try:
        # In a query, the plus sign of an offset is decoded as a space.
        at = datetime.fromisoformat(text.replace(" ", "+"))
    except ValueError:
        raise _invalid_instant(param) from None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def _invalid_instant(param: str) -> RequestError:
    return RequestError("invalid_value", f"{param} is Unix seconds or an RFC 3339 instant", param=param)


_FILTERS: Final[Mapping[str, Callable[[str], Filter]]] = {
    "model": _has_model,
    "backend": _has_backend,
    "status": _has_status,
    "result": _has_result,
    "since": _is_since,
    "until": _is_until,
}
