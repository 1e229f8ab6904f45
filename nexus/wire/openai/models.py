"""OpenAI's listing of models."""

from collections.abc import Mapping
from typing import Any

import msgspec

from nexus.domain.fleet import FleetSnapshot
from nexus.wire.catalogue import Aliases, Row, get, rows


def list_models(snapshot: FleetSnapshot, aliases: Aliases) -> bytes:
    """Make the answer to ``GET /v1/models``."""
    return msgspec.json.encode({"object": "list", "data": [_card(row) for row in rows(snapshot, aliases)]})


def show_model(name: str, snapshot: FleetSnapshot, aliases: Aliases) -> bytes:
    """Make the answer to ``GET /v1/models/{id}``.

    :raises RequestError: no healthy backend has *name*.
    """
    return msgspec.json.encode(_card(get(name, snapshot, aliases)))


def _card(row: Row) -> Mapping[str, Any]:
    return {
        "id": row.name,
        "object": "model",
        "created": row.created,
        "owned_by": "nexus",
        "context_length": row.context_length,
        "capabilities": {
            "vision": row.vision,
            "tools": row.tools,
            "json_mode": row.json_mode,
            "embeddings": row.embeddings,
        },
        "backends": row.backends,
    }
