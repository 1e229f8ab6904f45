"""Ollama's listings of models."""

from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final, TypedDict

import msgspec

from nexus.domain.fleet import FleetSnapshot
from nexus.domain.naming import Naming
from nexus.errors import RequestError
from nexus.wire.catalogue import CatalogueEntry, entries, get
from nexus.wire.documents import read

API_VERSION: Final = "0.33.0"
"""The version of Ollama whose API is followed, which clients compare with the one that they need."""

NEVER: Final = "2318-01-01T00:00:00Z"
"""Ollama's expiry of models that stay in memory."""


class OllamaDetails(TypedDict):
    """Facts that Nexus does not know; all of them are empty."""

    parent_model: str
    format: str
    family: str
    families: list[str]
    parameter_size: str
    quantization_level: str


class OllamaCard(TypedDict):
    """A model in both listings."""

    name: str
    model: str
    size: int
    digest: str
    details: OllamaDetails


class OllamaTag(OllamaCard):
    """A model that can be asked for."""

    modified_at: str
    capabilities: list[str]


class OllamaTags(TypedDict):
    """All of them."""

    models: list[OllamaTag]


class OllamaRunning(OllamaCard):
    """A model that can be asked for now."""

    expires_at: str
    size_vram: int
    context_length: int


class OllamaRunningModels(TypedDict):
    """All of them."""

    models: list[OllamaRunning]


class OllamaShown(TypedDict):
    """One model."""

    modelfile: str
    parameters: str
    template: str
    license: str
    details: OllamaDetails
    model_info: Mapping[str, Any]
    capabilities: list[str]
    modified_at: str


class OllamaVersion(TypedDict):
    """The version of the API."""

    version: str


def list_tags(snapshot: FleetSnapshot, naming: Naming) -> bytes:
    """Answer ``GET /api/tags``."""
    models: list[OllamaTag] = [
        {**_card(entry), "modified_at": entry.created_at, "capabilities": _capabilities(entry)}
        for entry in entries(snapshot, naming)
    ]
    return msgspec.json.encode({"models": models})


def list_running(snapshot: FleetSnapshot, naming: Naming) -> bytes:
    """Answer ``GET /api/ps`` with all models that can be asked now, loaded or not."""
    models: list[OllamaRunning] = [
        {**_card(entry), "expires_at": NEVER, "size_vram": 0, "context_length": entry.context_length or 0}
        for entry in entries(snapshot, naming)
    ]
    return msgspec.json.encode({"models": models})


def show_model(body: bytes, snapshot: FleetSnapshot, naming: Naming) -> bytes:
    """Answer ``POST /api/show``.

    :raises RequestError: *body* names no model, or one that no backend can be asked for.
    """
    asked = read(_DECODER, body)
    if asked is None:
        raise RequestError("invalid_json", "the body must be a JSON object that names a model")
    name = asked.model or asked.name
    if not name:
        raise RequestError("invalid_value", "'model' is missing or empty; name the model to show", param="model")
    entry = get(name, snapshot, naming)
    shown: OllamaShown = {
        "modelfile": "",
        "parameters": "",
        "template": "",
        "license": "",
        "details": _DETAILS,
        "model_info": _model_facts(entry),
        "capabilities": _capabilities(entry),
        "modified_at": entry.created_at,
    }
    return msgspec.json.encode(shown)


def show_version() -> bytes:
    """Answer ``GET /api/version``."""
    return msgspec.json.encode({"version": API_VERSION})


class _Asked(msgspec.Struct):
    model: str = ""
    name: str = ""
    """The name of ``model`` in older clients."""


_DECODER: Final = msgspec.json.Decoder(_Asked)

_DETAILS: Final[OllamaDetails] = {
    "parent_model": "",
    "format": "",
    "family": "",
    "families": [],
    "parameter_size": "",
    "quantization_level": "",
}


def _card(entry: CatalogueEntry) -> OllamaCard:
    return {
        "name": entry.name,
        "model": entry.name,
        "size": 0,
        # Clients compare it to detect a changed model.
        "digest": sha256(entry.name.encode()).hexdigest(),
        "details": _DETAILS,
    }


def _model_facts(entry: CatalogueEntry) -> Mapping[str, Any]:
    # Clients find the length under the architecture's name.
    length = {} if entry.context_length is None else {"nexus.context_length": entry.context_length}
    return {"general.architecture": "nexus", **length}


def _capabilities(entry: CatalogueEntry) -> list[str]:
    # As a rule, an embedding model completes nothing, unless it calls tools.
    completes = not entry.embeddings or entry.tools
    kinds = {
        "embedding": entry.embeddings,
        "completion": completes,
        "vision": entry.vision,
        "tools": entry.tools,
        "thinking": entry.thinking,
    }
    return [name for name, has in kinds.items() if has]
