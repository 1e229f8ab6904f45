"""Ollama's listings of models."""

from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final

import msgspec

from nexus.domain.fleet import FleetSnapshot
from nexus.errors import RequestError
from nexus.wire.catalogue import Aliases, Row, get, rows
from nexus.wire.documents import read

API_VERSION: Final = "0.33.0"
"""Whose API we follow. Clients compare it with what they need, so it is not ours."""

NEVER: Final = "2318-01-01T00:00:00Z"
"""When models that stay in memory leave it, as Ollama puts it."""


def list_tags(snapshot: FleetSnapshot, aliases: Aliases) -> bytes:
    """Make the answer to ``GET /api/tags``."""
    models = [
        {**_card(row), "modified_at": row.created_at, "capabilities": _capabilities(row)}
        for row in rows(snapshot, aliases)
    ]
    return msgspec.json.encode({"models": models})


def list_running(snapshot: FleetSnapshot, aliases: Aliases) -> bytes:
    """Make the answer to ``GET /api/ps``: all that can be asked now; what a server has loaded is its own affair."""
    models = [
        {**_card(row), "expires_at": NEVER, "size_vram": 0, "context_length": row.context_length or 0}
        for row in rows(snapshot, aliases)
    ]
    return msgspec.json.encode({"models": models})


def show_model(body: bytes, snapshot: FleetSnapshot, aliases: Aliases) -> bytes:
    """Make the answer to ``POST /api/show``.

    :raises RequestError: *body* names no model, or one that no healthy backend has.
    """
    asked = read(_DECODER, body)
    if asked is None:
        raise RequestError("invalid_json", "the body must be a JSON object that names a model")
    name = asked.model or asked.name
    if not name:
        raise RequestError("invalid_value", "'model' is missing or empty; name the model to show", param="model")
    row = get(name, snapshot, aliases)
    shown = {
        "modelfile": "",
        "parameters": "",
        "template": "",
        "license": "",
        "details": _DETAILS,
        "model_info": _model_facts(row),
        "capabilities": _capabilities(row),
        "modified_at": row.created_at,
    }
    return msgspec.json.encode(shown)


def show_version() -> bytes:
    """Make the answer to ``GET /api/version``."""
    return msgspec.json.encode({"version": API_VERSION})


class _Asked(msgspec.Struct):
    model: str = ""
    name: str = ""
    """As older clients call it."""


_DECODER: Final = msgspec.json.Decoder(_Asked)

_DETAILS: Final[Mapping[str, Any]] = {
    "parent_model": "",
    "format": "",
    "family": "",
    "families": [],
    "parameter_size": "",
    "quantization_level": "",
}


def _card(row: Row) -> Mapping[str, Any]:
    return {
        "name": row.name,
        "model": row.name,
        "size": 0,
        # Clients compare it to see whether a model has changed.
        "digest": sha256(row.name.encode()).hexdigest(),
        "details": _DETAILS,
    }


def _model_facts(row: Row) -> Mapping[str, Any]:
    # Clients find the length by way of the architecture's name.
    length = {} if row.context_length is None else {"nexus.context_length": row.context_length}
    return {"general.architecture": "nexus", **length}


def _capabilities(row: Row) -> list[str]:
    # A model that embeds completes nothing, as a rule; one that calls tools talks.
    completes = not row.embeddings or row.tools
    kinds = {"embedding": row.embeddings, "completion": completes, "vision": row.vision, "tools": row.tools}
    return [name for name, has in kinds.items() if has]
