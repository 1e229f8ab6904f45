"""Anthropic's listing of models."""

from typing import Literal, TypedDict

import msgspec

from nexus.domain.fleet import FleetSnapshot
from nexus.domain.naming import Naming
from nexus.wire.catalogue import CatalogueEntry, entries, get


class AnthropicModel(TypedDict):
    """A model."""

    type: Literal["model"]
    id: str
    display_name: str
    created_at: str
    lifecycle: Literal["active"]
    max_input_tokens: int | None


class AnthropicModels(TypedDict):
    """All models, on one page."""

    data: list[AnthropicModel]
    has_more: bool
    first_id: str | None
    last_id: str | None


def list_models(snapshot: FleetSnapshot, naming: Naming) -> bytes:
    """Answer ``GET /v1/models`` with all models on one page."""
    cards = [_card(entry) for entry in entries(snapshot, naming)]
    ids = [card["id"] for card in cards]
    listing: AnthropicModels = {
        "data": cards,
        "has_more": False,
        "first_id": ids[0] if ids else None,
        "last_id": ids[-1] if ids else None,
    }
    return msgspec.json.encode(listing)


def show_model(name: str, snapshot: FleetSnapshot, naming: Naming) -> bytes:
    """Answer ``GET /v1/models/{id}``. :raises RequestError: no backend can be asked for *name*."""
    return msgspec.json.encode(_card(get(name, snapshot, naming)))


def _card(entry: CatalogueEntry) -> AnthropicModel:
    return {
        "type": "model",
        "id": entry.name,
        "display_name": entry.name,
        "created_at": entry.created_at,
        "lifecycle": "active",
        "max_input_tokens": entry.context_length,
    }
