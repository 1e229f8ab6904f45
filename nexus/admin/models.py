"""The models of the fleet, in the shape of each protocol (``/v1/models``, ``/api/tags`` and the like)."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from nexus.admin.openapi.operation import DescribedRoute, Operation, Parameter
from nexus.domain.fleet import FleetSnapshot
from nexus.domain.naming import Naming
from nexus.domain.routes import Page, PageRequest
from nexus.wire.anthropic.models import AnthropicModel, AnthropicModels
from nexus.wire.listings import LISTINGS, ListingRoute
from nexus.wire.ollama.models import OllamaRunningModels, OllamaShown, OllamaTags, OllamaVersion
from nexus.wire.openai.models import OpenAIModel, OpenAIModels

_OPERATIONS: Final[Mapping[str, Operation]] = {
    "/v1/models": Operation(
        summary="The models of the whole fleet, in the shape of the client's protocol",
        answers=(OpenAIModels, AnthropicModels),
    ),
    "/v1/models/": Operation(
        summary="One model",
        answers=(OpenAIModel, AnthropicModel),
        refusals=(404,),
        below=(Parameter("model", "Its name, with the slashes that it has."),),
    ),
    "/api/tags": Operation(summary="The models of the whole fleet, for Ollama's clients", answers=(OllamaTags,)),
    "/api/ps": Operation(summary="The models that can be asked for now", answers=(OllamaRunningModels,)),
    "/api/show": Operation(
        summary="One model, for Ollama's clients",
        answers=(OllamaShown,),
        refusals=(400, 404, 413),
        body={
            "type": "object",
            "properties": {"model": {"type": "string", "minLength": 1}},
            "required": ["model"],
        },
    ),
    "/api/version": Operation(summary="Which version of Ollama's API is spoken", answers=(OllamaVersion,)),
}


def routes(snapshot: Callable[[], FleetSnapshot], naming: Naming) -> tuple[DescribedRoute, ...]:
    """Return the pages that list models."""
    return tuple(
        DescribedRoute(
            path=listing.path,
            methods=frozenset(listing.methods),
            respond=partial(_respond, listing, snapshot, naming),
            operation=_OPERATIONS[listing.path],
        )
        for listing in LISTINGS
    )


def _respond(
    listing: ListingRoute, snapshot: Callable[[], FleetSnapshot], naming: Naming, request: PageRequest
) -> Page:
    return listing.respond(request, snapshot(), naming)
