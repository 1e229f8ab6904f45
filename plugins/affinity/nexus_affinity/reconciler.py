"""The affinity stage: weighs each candidate by what the request costs there, relative to the cheapest."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any, Final

from nexus.api import (
    PROMPT_BLOCK_BYTES,
    AttemptOutcome,
    Backend,
    Hold,
    Measure,
    Priority,
    Reconciler,
    RoutingIntent,
    TokenUsage,
)
from nexus_affinity.caches import BackendCache, Entry
from nexus_affinity.config import AffinityConfig
from nexus_affinity.costs import Cost, Prompt, costs, factor
from nexus_affinity.fleet_caches import FleetCaches
from nexus_affinity.report import affinity_measures, affinity_report

MAX_EXPLAINED: Final = 32
"""Candidates in an explanation, the cheapest first: it must stay short in a large fleet."""
FIRST_ERROR: Final = 400
MIN_WAYS_PER_BACKEND: Final = 2
BLOCK_KIB: Final = PROMPT_BLOCK_BYTES // 1024


class AffinityReconciler(Reconciler):
    """Weighs each candidate by its cost, relative to the cheapest of the same priority."""

    name = "affinity"
    priority = Priority.AFFINITY
    on_error = "skip"
    wants_prompt_blocks = True

    def __init__(self, config: AffinityConfig, caches: FleetCaches, clock: Callable[[], float] = monotonic) -> None:
        self._config = config
        self._caches = caches
        self._clock = clock
        self._seeded: tuple[tuple[int, ...], str, list[int]] = ((), "", [])
        self._found: tuple[list[int], dict[int, int]] = ([], {})
        """The blocks judged last, and how many of them each backend holds: mostly, the request is sent right then."""

    def reconcile(self, intent: RoutingIntent) -> None:
        wanted = intent.requirements
        if len(intent.survivors) == 1 or not (wanted.prompt_blocks or wanted.conversation):
            return
        total, name, weigh = len(wanted.prompt_blocks), self.name, intent.weigh
        reasons: dict[tuple[int, float, float], str] = {}
        for group in self._costs(intent, least=2):
            lowest = min([cost.blocks for cost in group])
            for cost in group:
                if (blocks := cost.blocks) > lowest:
                    # In a large fleet, most candidates have the same one.
                    known = cost.cached, cost.busy, cost.unread
                    if (reason := reasons.get(known)) is None:
                        reason = reasons[known] = f"{_cached(cost, total)}; {_load(cost)}"
                    weigh(cost.backend, factor(lowest, blocks), stage=name, reason=reason)

    def reserve(self, intent: RoutingIntent, backend: Backend) -> Hold | None:
        wanted = intent.requirements
        if not (wanted.prompt_blocks or wanted.conversation):
            return None
        caches, blocks = self._caches, self._blocks(intent)
        cache = caches.opened(backend, self._config)
        depths = self._found[1] if self._found[0] is blocks else caches.index.depths(blocks, cache.bit)
        found = depths.get(cache.bit, 0)
        if found and _is_unloaded(backend, intent.model_on(backend)):
            found = 0
        caches.count(cache, self._clock())
        caches.note(blocks, found, wanted.conversation, backend)
        return CachedPrompt(cache, cache.insert(blocks), len(blocks) - found) if blocks else None

    def explain(self, intent: RoutingIntent) -> Mapping[str, Any]:
        found = sorted((cost for group in self._costs(intent) for cost in group), key=lambda cost: cost.blocks)
        total = len(intent.requirements.prompt_blocks)
        return {
            "prompt_kib": total * BLOCK_KIB,
            "is_conversation_known": intent.requirements.conversation in self._caches.conversations,
            "candidates": [_facts(cost, total) for cost in found[:MAX_EXPLAINED]],
        }

    def describe(self, intent: RoutingIntent) -> Mapping[str, str]:
        total = len(intent.requirements.prompt_blocks)
        if not total:
            return {}
        return {cost.backend.name: _cached(cost, total) for group in self._costs(intent) for cost in group}

    def measures(self) -> list[Measure]:
        return affinity_measures(self._caches)

    def report(self) -> Mapping[str, Any]:
        return affinity_report(self._caches)

    def _costs(self, intent: RoutingIntent, *, least: int = 1) -> list[list[Cost]]:
        """Return the costs of the candidates, those of each priority together: the operator's priority comes first.

        :param least: leave out the priorities that fewer candidates have: one alone is not compared with others.
        """
        caches, conversation = self._caches, intent.requirements.conversation
        caches.follow(intent.snapshot)
        known, bits = caches.caches, 0
        groups: defaultdict[int, list[tuple[Backend, BackendCache | None]]] = defaultdict(list)
        for backend, model in intent.survivors.values():
            cache = known.get(backend.id)
            if cache is not None:
                load = backend.load
                if cache.restarts != load.restarts:
                    caches.restarted(backend, cache)
                if load.told is None or not _is_unloaded(backend, model):
                    bits |= cache.bit
            groups[backend.priority].append((backend, cache))
        blocks = self._blocks(intent)
        depths = caches.index.depths(blocks, bits)
        self._found = blocks, depths
        # What begins more different prompts than there are backends should be in the cache of each.
        ways = MIN_WAYS_PER_BACKEND * max(2, len(intent.survivors))
        shared = caches.index.shared_depth(blocks, max(depths.values()), ways) if depths else 0
        last = caches.conversations.get(conversation) if conversation else None
        prompt, now = Prompt(len(blocks), depths, shared, last), self._clock()
        return [costs(group, prompt, now) for group in groups.values() if len(group) >= least]

    def _blocks(self, intent: RoutingIntent) -> list[int]:
        """Return the blocks of the prompt, different for each model: models share no cache."""
        blocks, model = intent.requirements.prompt_blocks, intent.resolved_model
        if blocks is not self._seeded[0] or model != self._seeded[1]:
            seed = hash(model)
            self._seeded = blocks, model, [block ^ seed for block in blocks]
        return self._seeded[2]


class CachedPrompt(Hold):
    """The prompt of one attempt, which stays in the backend's cache unless the attempt fails."""

    __slots__ = ("_cache", "_entry", "_unread")

    def __init__(self, cache: BackendCache, entry: Entry, unread: int) -> None:
        """:param unread: the blocks that the backend has to read, as they are not in its cache."""
        self._cache = cache
        self._entry = entry
        self._unread = unread
        cache.unread += unread

    def begin_answer(self, usage: TokenUsage | None) -> None:
        del usage
        self._cache.unread -= self._unread
        self._unread = 0

    def settle(self, outcome: AttemptOutcome) -> None:
        self.begin_answer(None)
        if outcome.first_byte_s is not None and (outcome.status or FIRST_ERROR) < FIRST_ERROR:
            self._cache.confirm(self._entry)
        else:
            self._cache.take_back(self._entry)


def _is_unloaded(backend: Backend, model: str) -> bool:
    """Whether the engine says that the model is not in memory, and so what it had read is gone."""
    told = backend.load.told
    return told is not None and told.loaded is not None and model not in told.loaded


def _cached(cost: Cost, total: int) -> str:
    if not total:
        return "its prompt is too short to be recognised"
    return f"about {cost.cached * BLOCK_KIB} of {total * BLOCK_KIB} KiB of the prompt are in its cache"


def _load(cost: Cost) -> str:
    requests = "1 request in flight" if cost.busy == 1.0 else f"{cost.busy:g} requests in flight"
    return f"{requests}, {cost.unread * BLOCK_KIB:.3g} KiB of prompts to read" if cost.unread else requests


def _facts(cost: Cost, total: int) -> Mapping[str, Any]:
    return {
        "backend": cost.backend.name,
        "cached_kib": cost.cached * BLOCK_KIB,
        "cached_share": round(cost.cached / total, 3) if total else 0.0,
        "in_flight": round(cost.busy, 2),
        "unread_kib": round(cost.unread * BLOCK_KIB, 1),
        "cost_kib": round(cost.blocks * BLOCK_KIB, 1),
    }
