"""The endpoints of batches and files, which Anthropic keeps by their ids."""

from functools import partial
from typing import Final

from nexus.domain.request import Endpoint

_kept = partial(Endpoint, protocol="anthropic", capability="keep", model="none")

KEEPING: Final = (
    _kept("anthropic.batches", path="/v1/messages/batches", methods=("GET",), makes_ids=True),
    # It asks models, and costs money, unlike the other endpoints here.
    Endpoint("anthropic.batch_create", "anthropic", "/v1/messages/batches", model="none", makes_ids=True),
    _kept("anthropic.batch", path="/v1/messages/batches/{id}", methods=("GET", "DELETE")),
    _kept("anthropic.batch_cancel", path="/v1/messages/batches/{id}/cancel"),
    _kept("anthropic.batch_results", path="/v1/messages/batches/{id}/results", methods=("GET",), answers_bytes=True),
    _kept("anthropic.files", path="/v1/files", methods=("GET",), makes_ids=True),
    _kept("anthropic.file_upload", path="/v1/files", body="multipart", makes_ids=True),
    _kept("anthropic.file", path="/v1/files/{id}", methods=("GET", "DELETE")),
    _kept("anthropic.file_content", path="/v1/files/{id}/content", methods=("GET",), answers_bytes=True),
)
