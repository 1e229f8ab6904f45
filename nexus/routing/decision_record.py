"""Records of recent decisions, kept as references that are read only when a decision is looked up.

A record never refers to a snapshot, an intent or a router, because it outlives all of them.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Self

import msgspec

from nexus.domain.backend import Backend
from nexus.domain.outcome import ExchangeOutcome
from nexus.domain.request import Endpoint, Kept, Requirements
from nexus.domain.silence import Offer
from nexus.routing.decision import Decision, Reject, Reserved, Saturated
from nexus.routing.intent import RoutingIntent, Verdict
from nexus.routing.model_names.resolution import Resolution
from nexus.routing.policies import Policy
from nexus.routing.ranking.scoring import Ranked
from nexus.routing.ranking.strategies import Strategy
from nexus.routing.stage.runner import Stage

MAX_RECORDS: Final = 1000
MAX_RECORDED_BLOCKS: Final = 16
"""Hashes of a prompt that a record may refer to. Those of a short prompt take less memory than the rest of it, and less
time than a copy without them; those of a thousand of the longest prompts would take 150 MB."""
MAX_RECORDS_WITH_FACTS: Final = 100
"""Fewer, because the facts of stages can be long."""

EXPLAIN_HINT: Final = "x-nexus-explain"
"""The request header, lower case, with which a client asks to keep the facts of its decision."""

_YES: Final = frozenset({"1", "true"})


class Request(msgspec.Struct, frozen=True):
    """What routing knows of one request."""

    id: str
    endpoint: Endpoint
    requirements: Requirements
    headers: Mapping[str, str]
    received_unix_s: float
    client_request_id: str = ""
    """The request id that the client sent; empty when it sent none. Two requests may have the same."""
    key_digest: bytes = b""
    """Of the client's API key; empty when it sent none, or no keys are configured."""
    kept: Kept | None = None
    """The object that it refers to, if known: only the backend that keeps it can answer."""

    @property
    def wants_explanation(self) -> bool:
        return bool(self.headers) and self.headers.get(EXPLAIN_HINT, "").strip().lower() in _YES

    def without_blocks(self) -> "Request":
        """Return it without the hashes of its prompt."""
        replace = msgspec.structs.replace
        return replace(self, requirements=replace(self.requirements, prompt_blocks=()))


class StageLabel(msgspec.Struct, frozen=True):
    """The identity of a stage, without the stage itself, which a reload may replace."""

    name: str
    plugin: str
    priority: int
    observes: bool
    is_idle: bool = False
    """Whether it has nothing to decide, so that it is called only for requests with hints."""

    @classmethod
    def of(cls, stage: Stage) -> Self:
        place = stage.place
        return cls(place.name, place.plugin, place.priority, place.observes, stage.is_idle)


class RoutingRules(msgspec.Struct, frozen=True):
    """The parts of a configuration that are needed to read the records made with it."""

    stages: tuple[StageLabel, ...]
    strategy: Strategy


# gc=False: these objects are never part of a reference cycle.
class ConsideredModel(msgspec.Struct, gc=False):
    """One model of the fallback chain, and how its candidates were judged."""

    resolution: Resolution
    policies: tuple[Policy, ...]
    """Of the model asked for, and of the fallback itself."""
    excluded: Sequence[Verdict] = ()
    avoided: Sequence[Verdict] = ()
    weights: Sequence[Verdict] = ()
    observed: Sequence[Verdict] = ()
    skipped: Sequence[str] = ()
    """The names of stages that failed and were skipped."""
    spent_s: Sequence[float] = ()
    """The duration of each stage that finished; shorter than the stages when one of them ended the request."""
    facts: tuple[Mapping[str, Any], ...] | None = None
    """The facts of each stage; None when they were not asked for."""
    sentences: tuple[Mapping[str, str], ...] = ()
    """What each stage says of the candidates, by the names of the backends; empty when it was not asked for."""
    ranking: Sequence[Ranked] = ()
    full: Sequence[Verdict] = ()
    """What the busy backends of the ranking lacked: a free slot, or something that another stage holds."""

    @property
    def is_avoided(self) -> bool:
        """Whether every backend of the ranking is avoided."""
        return bool(self.ranking) and self.ranking[0].is_avoided

    def watch(self, intent: RoutingIntent) -> None:
        """Share the lists of *intent*, so that the verdicts are kept even if a stage fails."""
        self.excluded, self.avoided = intent.excluded, intent.avoided
        self.weights, self.observed = intent.weights, intent.observed
        self.skipped, self.spent_s = intent.skipped, intent.spent_s

    def add_facts(self, stages: Sequence[Stage], intent: RoutingIntent) -> None:
        """Add what each of *stages* knows of all candidates, including excluded ones."""
        whole = msgspec.structs.replace(intent, survivors=dict(self.resolution.candidates))
        self.facts = tuple(stage.explain(whole) for stage in stages)
        self.sentences = tuple(stage.describe(whole) for stage in stages)


class Round(msgspec.Struct, gc=False):
    """One search through the chain. There is one at first and one after each failed attempt; waiting adds none."""

    backends: tuple[Backend, ...]
    """The whole fleet, as it was."""
    models: list[ConsideredModel]
    decision: Decision | None = None
    chosen: ConsideredModel | None = None
    """The one of *models* for which a backend was reserved, if any."""
    refusal: Reject | None = None
    """Why the request cannot be said in the protocol of the backend that was reserved; None: it can, or need not."""
    tries: int = 1
    """How often the search was made; only the last one counts, after the request waited or backends were probed."""


class DecisionRecord(msgspec.Struct, gc=False):
    """One request with all its rounds."""

    request: Request
    rules: RoutingRules
    rounds: list[Round]
    outcome: ExchangeOutcome | None = None
    """None until the request ends."""

    def begin_round(self, backends: tuple[Backend, ...]) -> Round:
        """Return a new round. It replaces a last round that reserved nothing, because their number has no limit."""
        tries = 1
        if self.rounds and isinstance(self.rounds[-1].decision, Saturated | Reject):
            tries += self.rounds.pop().tries
        begun = Round(backends, [], tries=tries)
        self.rounds.append(begun)
        return begun

    def note_untranslatable(self, message: str, param: str | None) -> None:
        """Record why the request cannot be translated for the last backend that was reserved."""
        self.rounds[-1].refusal = Reject("not_translatable", message, param=param)

    def forget_facts(self) -> None:
        """Drop the facts of the stages."""
        for found in self.rounds:
            for model in found.models:
                model.facts, model.sentences = None, ()

    @property
    def last_reserved(self) -> Reserved | None:
        """The last reservation, if any."""
        decisions = (found.decision for found in reversed(self.rounds))
        return next((decision for decision in decisions if isinstance(decision, Reserved)), None)

    @property
    def last_chosen(self) -> ConsideredModel | None:
        """The model for which a backend was reserved in the last round, if any."""
        return self.rounds[-1].chosen if self.rounds else None

    def rivals_of(self, reserved: Reserved) -> list[Offer]:
        """Return all other backends that have the model for which *reserved* was chosen last."""
        offers = () if self.last_chosen is None else self.last_chosen.resolution.candidates.values()
        return [offer for offer in offers if offer[0].id != reserved.backend.id]

    @property
    def last_reject(self) -> Reject | None:
        """The rejection of the last round, if any."""
        decision = self.rounds[-1].decision if self.rounds else None
        return decision if isinstance(decision, Reject) else None


class RecentDecisions:
    """The last thousand decisions, including those of requests in flight."""

    def __init__(self, limit: int = MAX_RECORDS) -> None:
        self._records: deque[DecisionRecord] = deque(maxlen=limit)
        self._with_facts: deque[DecisionRecord] = deque()
        self.add: Final = self._records.append
        """Add a record; the oldest one is dropped for it."""

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[DecisionRecord]:
        """Iterate over the records, newest first."""
        return reversed(self._records)

    def add_with_facts(self, record: DecisionRecord) -> None:
        """Add a record that will have facts; those of the oldest such record are dropped for it."""
        self.add(record)
        self._with_facts.append(record)
        if len(self._with_facts) > MAX_RECORDS_WITH_FACTS:
            self._with_facts.popleft().forget_facts()

    def find(self, id_: str) -> DecisionRecord | None:
        """Return the record of the request with this id, which is the one that Nexus gave it."""
        return next((record for record in self if record.request.id == id_), None)
