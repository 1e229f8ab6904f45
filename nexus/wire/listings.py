"""The pages that list the models of the fleet, in each protocol."""

from collections.abc import Callable
from typing import Final
from urllib.parse import unquote

import msgspec

from nexus.domain.fleet import FleetSnapshot
from nexus.domain.naming import Naming
from nexus.domain.routes import Page, PageRequest
from nexus.wire.anthropic import models as anthropic
from nexus.wire.ollama import models as ollama
from nexus.wire.openai import models as openai

READ: Final = frozenset({"GET", "HEAD"})


class ListingRoute(msgspec.Struct, frozen=True):
    """One path; one that ends in ``/`` stands for all paths below it."""

    path: str
    respond: Callable[[PageRequest, FleetSnapshot, Naming], Page]
    methods: frozenset[str] = READ


def _models(asked: PageRequest, snapshot: FleetSnapshot, naming: Naming) -> Page:
    protocol = anthropic if asked.is_anthropic else openai
    return _page(protocol.list_models(snapshot, naming))


def _model(asked: PageRequest, snapshot: FleetSnapshot, naming: Naming) -> Page:
    protocol = anthropic if asked.is_anthropic else openai
    # Names of models may contain slashes, which only some clients escape.
    name = unquote(asked.path.removeprefix("/v1/models/"))
    return _page(protocol.show_model(name, snapshot, naming))


def _page(body: bytes) -> Page:
    return Page(200, "application/json", body)


LISTINGS: Final = (
    ListingRoute("/v1/models", _models),
    ListingRoute("/v1/models/", _model),
    ListingRoute("/api/tags", lambda _, snapshot, naming: _page(ollama.list_tags(snapshot, naming))),
    ListingRoute("/api/ps", lambda _, snapshot, naming: _page(ollama.list_running(snapshot, naming))),
    ListingRoute(
        "/api/show",
        lambda asked, snapshot, naming: _page(ollama.show_model(asked.body, snapshot, naming)),
        frozenset({"POST"}),
    ),
    ListingRoute("/api/version", lambda _asked, _snapshot, _aliases: _page(ollama.show_version())),
)
