"""What a request refers to by its path, and what its answer shows of what the backend keeps from now on."""

from typing import Final
from urllib.parse import parse_qsl

from msgspec.structs import replace

from nexus.domain.request import Reference, Requirements
from nexus.errors import UpstreamError, UpstreamFault
from nexus.proxy.client.incoming import Admission
from nexus.proxy.exchange.attempt import Attempt
from nexus.proxy.exchange.resource_owners import Keepers
from nexus.proxy.exchange.response import Answer
from nexus.proxy.upstream.response_head import Mode
from nexus.wire.kept.made_ids import made_id_in_part, made_ids, made_ids_in_stream

_YES: Final = frozenset({"true", "1"})
FIRST_ERROR: Final = 400
NOT_HERE: Final = frozenset({FIRST_ERROR, 404, 405, 501})
"""What a backend answers that does not serve a path, or does not keep what the request refers to."""


def with_place(requirements: Requirements, admission: Admission) -> Requirements:
    """Return *requirements* with what path and query say besides."""
    references = (*(Reference(id_) for id_ in admission.ids), *requirements.references)
    query = admission.target.partition(b"?")[2].decode("latin-1")
    is_stream = requirements.is_stream
    if admission.method == b"GET":
        is_stream = dict(parse_qsl(query)).get("stream", "").lower() in _YES
    return replace(requirements, references=references, is_stream=is_stream)


def note_whole(keepers: Keepers, admission: Admission, attempt: Attempt, requirements: Requirements) -> None:
    """Learn from a whole answer what its backend has made, or has deleted."""
    answer = attempt.answer
    if answer.status >= FIRST_ERROR:
        return
    if admission.method == b"DELETE" and admission.ids:
        keepers.forget(admission.ids[-1])
    elif _is_made(admission, requirements):
        _learn(keepers, made_ids(answer.body), attempt, requirements)


def note_stream(keepers: Keepers, admission: Admission, attempt: Attempt, requirements: Requirements) -> None:
    """Learn from the beginning of a stream, which is still held back, what its backend is making."""
    answer = attempt.answer
    if answer.status < FIRST_ERROR and _is_made(admission, requirements):
        read = made_ids_in_stream if answer.mode is Mode.EVENTS else made_id_in_part
        _learn(keepers, read(answer.body), attempt, requirements)


def refuse_if_elsewhere(requirements: Requirements, answer: Answer) -> None:
    """Raise UpstreamError when another backend may have what this one says it has not."""
    is_named = any(reference.param and reference.id.encode() in answer.body for reference in requirements.references)
    if answer.status in NOT_HERE and (answer.status != FIRST_ERROR or is_named):
        text = "it does not have what was asked for"
        raise UpstreamError(UpstreamFault.STATUS, text, status=answer.status, is_refusal=True)


def _is_made(admission: Admission, requirements: Requirements) -> bool:
    endpoint = admission.endpoint
    return endpoint.makes_ids and (requirements.is_kept or endpoint.model == "none")


def _learn(keepers: Keepers, ids: tuple[str, ...], attempt: Attempt, requirements: Requirements) -> None:
    keepers.learn(ids, attempt.backend.name, requirements.model or attempt.reserved.resolved_model)
