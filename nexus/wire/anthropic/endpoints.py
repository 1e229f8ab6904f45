"""What Anthropic keeps for its clients, who name it by its id: batches and files."""

from typing import Final

from nexus.domain.request import Endpoint


def _keeps(name: str, path: str, *methods: str, makes_ids: bool = False, answers_bytes: bool = False) -> Endpoint:
    return Endpoint(
        f"anthropic.{name}",
        "anthropic",
        path,
        capability="keep",
        methods=methods,
        model="none",
        makes_ids=makes_ids,
        answers_bytes=answers_bytes,
    )


KEEPING: Final = (
    _keeps("batches", "/v1/messages/batches", "GET", makes_ids=True),
    # It has models asked, and costs what they cost.
    Endpoint("anthropic.batch_create", "anthropic", "/v1/messages/batches", model="none", makes_ids=True),
    _keeps("batch", "/v1/messages/batches/{id}", "GET", "DELETE"),
    _keeps("batch_cancel", "/v1/messages/batches/{id}/cancel", "POST"),
    _keeps("batch_results", "/v1/messages/batches/{id}/results", "GET", answers_bytes=True),
    _keeps("files", "/v1/files", "GET", makes_ids=True),
    Endpoint(
        "anthropic.file_upload",
        "anthropic",
        "/v1/files",
        capability="keep",
        body="multipart",
        model="none",
        makes_ids=True,
    ),
    _keeps("file", "/v1/files/{id}", "GET", "DELETE"),
    _keeps("file_content", "/v1/files/{id}/content", "GET", answers_bytes=True),
)
