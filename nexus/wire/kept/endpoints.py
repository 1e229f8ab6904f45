"""Builds the rows of endpoints for what a backend keeps, which ask no model."""

from typing import Literal

from nexus.domain.request import Endpoint, Protocol


def kept(  # noqa: PLR0913 - the columns of one row
    protocol: Protocol,
    name: str,
    path: str,
    *methods: str,
    body: Literal["json", "multipart"] = "json",
    makes_ids: bool = False,
    answers_bytes: bool = False,
) -> Endpoint:
    """Return the row of *name* at *path*."""
    return Endpoint(
        f"{protocol}.{name}",
        protocol,
        path,
        capability="keep",
        body=body,
        methods=methods,
        model="none",
        makes_ids=makes_ids,
        answers_bytes=answers_bytes,
    )
