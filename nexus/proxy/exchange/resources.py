"""The resources that backends keep: which ones a request refers to, and which ones its answer creates or deletes."""

from typing import Final
from urllib.parse import parse_qsl

from msgspec.structs import replace

from nexus.domain.request import Reference, Requirements
from nexus.domain.statuses import FIRST_ERROR
from nexus.error_codes import UpstreamFault
from nexus.errors import UpstreamError
from nexus.proxy.client.incoming import IncomingRequest
from nexus.proxy.exchange.attempt import Attempt
from nexus.proxy.exchange.resource_owners import ResourceOwners
from nexus.proxy.exchange.response import Response
from nexus.wire.kept.made_ids import made_id_in_part, made_ids, made_ids_in_stream

_YES: Final = frozenset({"true", "1"})
NOT_HERE: Final = frozenset({FIRST_ERROR, 404, 405, 501})
"""The statuses of a backend that does not serve a path, or does not keep the resource."""


def with_references(requirements: Requirements, request: IncomingRequest) -> Requirements:
    """Return *requirements* with the references in the path, and the stream in the query."""
    references = (*(Reference(id_) for id_ in request.ids), *requirements.references)
    query = request.target.partition(b"?")[2].decode("latin-1")
    is_stream = requirements.is_stream
    if request.method == b"GET":
        is_stream = dict(parse_qsl(query)).get("stream", "").lower() in _YES
    return replace(requirements, references=references, is_stream=is_stream)


def note_whole(
    owners: ResourceOwners, request: IncomingRequest, attempt: Attempt, response: Response, requirements: Requirements
) -> None:
    """Note the resources that a whole answer says were created or deleted."""
    if response.status >= FIRST_ERROR:
        return
    if request.method == b"DELETE" and request.ids:
        owners.forget(request.ids[-1])
    elif _is_created(request, requirements):
        _learn(owners, made_ids(response.body), attempt, requirements)


def note_stream(
    owners: ResourceOwners, request: IncomingRequest, attempt: Attempt, response: Response, requirements: Requirements
) -> None:
    """Note the resources that the beginning of a stream, which is still held back, says are being created."""
    if response.status < FIRST_ERROR and _is_created(request, requirements):
        read = made_ids_in_stream if response.mode == "events" else made_id_in_part
        _learn(owners, read(response.body), attempt, requirements)


def refuse_if_elsewhere(requirements: Requirements, response: Response) -> None:
    """Raise UpstreamError when another backend may keep the resource that this one does not have."""
    is_named = any(reference.param and reference.id.encode() in response.body for reference in requirements.references)
    if response.status in NOT_HERE and (response.status != FIRST_ERROR or is_named):
        text = "it does not have what was asked for"
        raise UpstreamError(UpstreamFault.STATUS, text, status=response.status, is_refusal=True)


def _is_created(request: IncomingRequest, requirements: Requirements) -> bool:
    endpoint = request.endpoint
    return endpoint.makes_ids and (requirements.is_kept or endpoint.model == "none")


def _learn(owners: ResourceOwners, ids: tuple[str, ...], attempt: Attempt, requirements: Requirements) -> None:
    owners.learn(ids, attempt.backend.name, requirements.model or attempt.reserved.resolved_model)
