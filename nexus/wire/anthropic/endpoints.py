"""The endpoints of batches and files, which Anthropic keeps by their ids."""

from functools import partial
from typing import Final

from nexus.domain.request import Endpoint
from nexus.wire.kept.endpoints import kept

_keeps = partial(kept, "anthropic")

KEEPING: Final = (
    _keeps("batches", "/v1/messages/batches", "GET", makes_ids=True),
    # It asks models, and costs money, unlike the other endpoints here.
    Endpoint("anthropic.batch_create", "anthropic", "/v1/messages/batches", model="none", makes_ids=True),
    _keeps("batch", "/v1/messages/batches/{id}", "GET", "DELETE"),
    _keeps("batch_cancel", "/v1/messages/batches/{id}/cancel", "POST"),
    _keeps("batch_results", "/v1/messages/batches/{id}/results", "GET", answers_bytes=True),
    _keeps("files", "/v1/files", "GET", makes_ids=True),
    _keeps("file_upload", "/v1/files", "POST", body="multipart", makes_ids=True),
    _keeps("file", "/v1/files/{id}", "GET", "DELETE"),
    _keeps("file_content", "/v1/files/{id}/content", "GET", answers_bytes=True),
)
