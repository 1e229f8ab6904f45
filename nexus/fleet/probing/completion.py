"""Completing what is known of the models of one backend by lookups, each model once for each of its revisions."""

import asyncio
from collections.abc import Iterable
from typing import Final

import msgspec
import structlog

from nexus.domain.kinds import FactsLookup
from nexus.domain.model import ModelFacts
from nexus.fleet.fetching import FetchError
from nexus.fleet.probing.session import Questions

LOOKUPS_AT_ONCE: Final = 4
"""Of one backend: it has better things to do than to describe itself."""

log = structlog.get_logger("nexus.fleet")

Models = tuple[ModelFacts, ...]


class Completion:
    """Lives as long as its backend, and remembers what need not be asked twice."""

    def __init__(self, backend: str, *, timeout_s: float) -> None:
        self._backend = backend
        self._timeout_s = timeout_s
        self._known: dict[tuple[str, str], tuple[ModelFacts, ModelFacts]] = {}
        """By lookup and model: the facts before and after."""

    async def complete(self, lookups: Iterable[FactsLookup], models: Models, questions: Questions) -> Models:
        """Return *models* with what *lookups* tell of them; a lookup that fails leaves them as they are."""
        names = {facts.name for facts in models}
        self._known = {key: known for key, known in self._known.items() if key[1] in names}
        for lookup in lookups:
            if lookup.is_per_model:
                models = await self._each(lookup, models, questions)
            else:
                models = await self._all(lookup, models, questions)
        return models

    async def _all(self, lookup: FactsLookup, models: Models, questions: Questions) -> Models:
        try:
            return lookup.decode(await questions.ask(lookup.path), models)
        except (FetchError, ValueError) as exc:
            log.debug("lookup_failed", backend=self._backend, path=lookup.path, error=str(exc))
            return models

    async def _each(self, lookup: FactsLookup, models: Models, questions: Questions) -> Models:
        gate = asyncio.Semaphore(LOOKUPS_AT_ONCE)
        try:
            async with asyncio.timeout(self._timeout_s):
                await asyncio.gather(
                    *(
                        self._ask(lookup, facts, questions, gate)
                        for facts in models
                        if self._remembered(lookup, facts) is None
                    )
                )
        except TimeoutError:
            # What has been learnt is kept, and the rest is asked for by the next probe: unknown excludes nobody.
            log.debug("lookups_unfinished", backend=self._backend, path=lookup.path)
        return tuple(self._remembered(lookup, facts) or facts for facts in models)

    async def _ask(self, lookup: FactsLookup, facts: ModelFacts, questions: Questions, gate: asyncio.Semaphore) -> None:
        async with gate:
            try:
                (completed,) = lookup.decode(await questions.ask_about(lookup, facts.name), (facts,))
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
    # Some servers say "created now" each time.
    return msgspec.structs.replace(facts, created=0)
