"""Completes the facts about a backend's models by lookups, one for each revision of a model."""

import asyncio
from collections.abc import Iterable
from typing import Final

import msgspec
import structlog

from nexus.domain.kinds import FactsLookup
from nexus.domain.model import ModelFacts
from nexus.fleet.fetching import FetchError
from nexus.fleet.probing.session import ProbeSession

LOOKUPS_AT_ONCE: Final = 4
"""Per backend, to leave it time for requests."""

log = structlog.get_logger("nexus.fleet")

Models = tuple[ModelFacts, ...]


class Completion:
    """Caches the lookups of one backend across its probes."""

    def __init__(self, backend: str, *, timeout_s: float) -> None:
        self._backend = backend
        self._timeout_s = timeout_s
        self._known: dict[tuple[str, str], tuple[ModelFacts, ModelFacts]] = {}
        """By path of the lookup and model: the facts before and after."""

    async def complete(self, lookups: Iterable[FactsLookup], models: Models, session: ProbeSession) -> Models:
        """Return *models* completed by *lookups*; a lookup that fails leaves them unchanged."""
        names = {facts.name for facts in models}
        self._known = {key: known for key, known in self._known.items() if key[1] in names}
        for lookup in lookups:
            if lookup.is_per_model:
                models = await self._each(lookup, models, session)
            else:
                models = await self._all(lookup, models, session)
        return models

    async def _all(self, lookup: FactsLookup, models: Models, session: ProbeSession) -> Models:
        try:
            return lookup.decode(await session.body(lookup.path), models)
        except (FetchError, ValueError) as exc:
            log.debug("lookup_failed", backend=self._backend, path=lookup.path, error=str(exc))
            return models

    async def _each(self, lookup: FactsLookup, models: Models, session: ProbeSession) -> Models:
        gate = asyncio.Semaphore(LOOKUPS_AT_ONCE)
        try:
            async with asyncio.timeout(self._timeout_s):
                await asyncio.gather(
                    *(
                        self._look_up(lookup, facts, session, gate)
                        for facts in models
                        if self._remembered(lookup, facts) is None
                    )
                )
        except TimeoutError:
            # The next probe looks up the rest; a fact that is unknown until then excludes no backend.
            log.debug("lookups_unfinished", backend=self._backend, path=lookup.path)
        return tuple(self._remembered(lookup, facts) or facts for facts in models)

    async def _look_up(
        self, lookup: FactsLookup, facts: ModelFacts, session: ProbeSession, gate: asyncio.Semaphore
    ) -> None:
        async with gate:
            try:
                (completed,) = lookup.decode(await session.body_about(lookup, facts.name), (facts,))
            except (FetchError, ValueError) as exc:
                log.debug("lookup_failed", backend=self._backend, path=lookup.path, model=facts.name, error=str(exc))
            else:
                self._known[lookup.path, facts.name] = (_undated(facts), completed)

    def _remembered(self, lookup: FactsLookup, facts: ModelFacts) -> ModelFacts | None:
        before, after = self._known.get((lookup.path, facts.name), (None, None))
        if after is None or before != _undated(facts):
            return None
        return msgspec.structs.replace(after, created=facts.created)


def _undated(facts: ModelFacts) -> ModelFacts:
    # Some servers always report the current time.
    return msgspec.structs.replace(facts, created=0)
