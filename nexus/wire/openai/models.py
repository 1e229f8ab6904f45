"""OpenAI's listing of models."""

from typing import Literal, TypedDict

import msgspec

from nexus.domain.fleet import FleetSnapshot
from nexus.domain.naming import Naming
from nexus.wire.catalogue import CatalogueEntry, entries, get


class Capabilities(TypedDict):
    """What a model can do; null if no server reports it."""

    vision: bool | None
    tools: bool | None
    json_mode: bool | None
    embeddings: bool | None


class OpenAIModel(TypedDict):
    """A model, with further facts that Nexus knows."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    context_length: int | None
    capabilities: Capabilities
    backends: tuple[str, ...]


class OpenAIModels(TypedDict):
    """All models."""

    object: Literal["list"]
    data: list[OpenAIModel]


def list_models(snapshot: FleetSnapshot, naming: Naming) -> bytes:
    """Answer ``GET /v1/models``."""
    listing: OpenAIModels = {"object": "list", "data": [_card(entry) for entry in entries(snapshot, naming)]}
    return msgspec.json.encode(listing)


def show_model(name: str, snapshot: FleetSnapshot, naming: Naming) -> bytes:
    """Answer ``GET /v1/models/{id}``. :raises RequestError: no backend can be asked for *name*."""
    return msgspec.json.encode(_card(get(name, snapshot, naming)))


def _card(entry: CatalogueEntry) -> OpenAIModel:
    return {
        "id": entry.name,
        "object": "model",
        "created": entry.created,
        "owned_by": "nexus",
        "context_length": entry.context_length,
        "capabilities": {
            "vision": entry.vision,
            "tools": entry.tools,
            "json_mode": entry.json_mode,
            "embeddings": entry.embeddings,
        },
        "backends": entry.backends,
    }
