"""The models that a fleet can serve now, one entry per name, for the listings of all protocols.

Routing sends each request to a backend that can serve it, so an entry has the longest context and all capabilities of
its backends.
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Final

import msgspec

from nexus.domain.backend import Backend, Status
from nexus.domain.fleet import FleetSnapshot
from nexus.domain.model import ModelFacts
from nexus.domain.naming import Naming, distinct
from nexus.errors import RequestError

MAX_SHOWN_CHARACTERS: Final = 256

UNKNOWN_CREATED: Final = 1_700_000_000
"""For models whose servers report no date. Constant, because clients compare it."""


class CatalogueEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One name that a client may ask for. None means that no backend reports it."""

    name: str
    created: int
    """Unix seconds."""
    backends: tuple[str, ...]
    context_length: int | None
    vision: bool | None
    tools: bool | None
    json_mode: bool | None
    embeddings: bool | None
    thinking: bool | None

    @property
    def created_at(self) -> str:
        return datetime.fromtimestamp(self.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def entries(snapshot: FleetSnapshot, naming: Naming) -> list[CatalogueEntry]:
    """Return all models and aliases that a backend can be asked for, sorted by name, each model under one name."""
    names = sorted({*distinct(snapshot.models, snapshot), *naming.aliases})
    return [entry for name in names if (entry := find(name, snapshot, naming)) is not None]


def find(name: str, snapshot: FleetSnapshot, naming: Naming) -> CatalogueEntry | None:
    """Return the entry of *name*, in any spelling that a backend accepts; None when no backend can be asked for it.

    If no healthy backend has it, those that routing uses as a last resort count.
    """
    offers = [offer for model in naming.meaning(name, snapshot).models for offer in _offers(model, snapshot)]
    able = {backend.name: facts for backend, facts in offers if backend.status is Status.HEALTHY}
    able = able or {backend.name: facts for backend, facts in offers if backend.may_be_asked}
    if not able:
        return None
    created = [facts.created for _, facts in offers if facts.created > 0]
    return CatalogueEntry(
        name=name,
        # Of all backends, healthy or not, so that it does not change with their health.
        created=min(created, default=UNKNOWN_CREATED),
        backends=tuple(sorted(able)),
        context_length=max((f.context_length for f in able.values() if f.context_length is not None), default=None),
        vision=_any(facts.vision for facts in able.values()),
        tools=_any(facts.tools for facts in able.values()),
        json_mode=_any(facts.json_mode for facts in able.values()),
        embeddings=_any(facts.embeddings for facts in able.values()),
        thinking=_any(facts.thinking for facts in able.values()),
    )


def get(name: str, snapshot: FleetSnapshot, naming: Naming) -> CatalogueEntry:
    """Return the entry of *name*. :raises RequestError: there is none."""
    entry = find(name, snapshot, naming)
    if entry is not None:
        return entry
    shown = name if len(name) <= MAX_SHOWN_CHARACTERS else f"{name[:MAX_SHOWN_CHARACTERS]}…"
    message = f"Model '{shown}' not found: no backend in use has it"
    if (hint := naming.hint(name, snapshot)) is None:
        raise RequestError("model_not_found", message, param="model")
    raise RequestError("model_not_found", f"{message}. {hint.text}", param="model", context=hint.context)


def _offers(model: str, snapshot: FleetSnapshot) -> Iterator[tuple[Backend, ModelFacts]]:
    for backend in snapshot.having(model):
        facts = backend.facts(model)
        if facts is not None:
            yield backend, facts


def _any(claims: Iterable[bool | None]) -> bool | None:
    known = [claim for claim in claims if claim is not None]
    return any(known) if known else None
