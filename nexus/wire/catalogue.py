"""The models that a fleet can serve now, one row per name, for the listings of all protocols.

Routing sends each request to a backend that can serve it. So a row promises what the best of its backends can do: the
longest context, and every capability that one of them has.
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
"""For models whose servers do not say when they were made: the same at every call, as clients compare it."""


class CatalogueEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One name that a client may ask for. None means that no backend says."""

    name: str
    created: int
    """Unix seconds."""
    backends: tuple[str, ...]
    context_length: int | None
    vision: bool | None
    tools: bool | None
    json_mode: bool | None
    embeddings: bool | None

    @property
    def created_at(self) -> str:
        return datetime.fromtimestamp(self.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def rows(snapshot: FleetSnapshot, naming: Naming) -> list[CatalogueEntry]:
    """Return every model and alias that a backend can be asked for, sorted by name, each model under one name."""
    names = sorted({*distinct(snapshot.models, snapshot), *naming.aliases})
    return [row for name in names if (row := find(name, snapshot, naming)) is not None]


def find(name: str, snapshot: FleetSnapshot, naming: Naming) -> CatalogueEntry | None:
    """Return the row of *name*, in any spelling that a backend knows; None when no backend that has it can be asked.

    Where no healthy backend has it, those count that routing asks as a last resort.
    """
    offers = [offer for model in naming.meaning(name, snapshot).models for offer in _offers(model, snapshot)]
    able = {backend.name: facts for backend, facts in offers if backend.status is Status.HEALTHY}
    able = able or {backend.name: facts for backend, facts in offers if backend.may_be_asked}
    if not able:
        return None
    created = [facts.created for _, facts in offers if facts.created > 0]
    return CatalogueEntry(
        name=name,
        # Of all backends, healthy or not: it must not move with their health.
        created=min(created, default=UNKNOWN_CREATED),
        backends=tuple(sorted(able)),
        context_length=max((f.context_length for f in able.values() if f.context_length is not None), default=None),
        vision=_any(facts.vision for facts in able.values()),
        tools=_any(facts.tools for facts in able.values()),
        json_mode=_any(facts.json_mode for facts in able.values()),
        embeddings=_any(facts.embeddings for facts in able.values()),
    )


def get(name: str, snapshot: FleetSnapshot, naming: Naming) -> CatalogueEntry:
    """Return the row of *name*.

    :raises RequestError: there is none.
    """
    row = find(name, snapshot, naming)
    if row is not None:
        return row
    shown = name if len(name) <= MAX_SHOWN_CHARACTERS else f"{name[:MAX_SHOWN_CHARACTERS]}…"
    message = f"Model '{shown}' not found; no backend that can be asked has it"
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
