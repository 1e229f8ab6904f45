"""What is kept of each decision while it is made: references to what there is anyway, read only when somebody asks.

Nothing in here leads back to a whole snapshot, an intent or a router: a record outlives all of them.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from nexus.domain.backend import Backend
from nexus.domain.outcome import ExchangeOutcome
from nexus.domain.request import Endpoint, Kept, Requirements
from nexus.domain.silence import Offer
from nexus.routing.decision import Decision, Ranked, Reject, Reserved, Saturated
from nexus.routing.intent import RoutingIntent, Verdict
from nexus.routing.model_names.resolution import Resolution
from nexus.routing.policies import Policy
from nexus.routing.ranking.strategies import Strategy

MOST_RECORDS: Final = 1000
MOST_WITH_FACTS: Final = 100
"""What stages say on demand can be long; who asked for it reads it soon."""

EXPLAIN_HINT: Final = "x-nexus-explain"
"""The request header, lower case, by which a client asks for its decision to be kept with all facts."""

_YES: Final = frozenset({"1", "true"})


class Request(msgspec.Struct, frozen=True):
    """What routing knows of one request."""

    id: str
    endpoint: Endpoint
    requirements: Requirements
    headers: Mapping[str, str]
    received_unix_s: float
    client_request_id: str = ""
    """What the client calls it; empty when it sent no id. Two requests may have the same."""
    key_digest: bytes = b""
    """Of the key that the client showed; empty when it showed none, or no keys are configured."""
    kept: Kept | None = None
    """What it refers to that one backend keeps, where that is known: only that backend can answer."""

    @property
    def wants_explanation(self) -> bool:
        return bool(self.headers) and self.headers.get(EXPLAIN_HINT, "").strip().lower() in _YES


class Label(msgspec.Struct, frozen=True):
    """A stage as records name it: its object, and all that it holds, may be gone after a reload."""

    name: str
    plugin: str
    priority: int
    observes: bool


class Rules(msgspec.Struct, frozen=True):
    """What of one configuration must be known to read the records that were made under it."""

    stages: tuple[Label, ...]
    strategy: Strategy


# The collector need not look at these: no object of theirs leads back to them.
class Considered(msgspec.Struct, gc=False):
    """One model of the chain, and what came of it."""

    resolution: Resolution
    policies: tuple[Policy, ...]
    """That of the name asked for, and the fallback's own."""
    excluded: Sequence[Verdict] = ()
    avoided: Sequence[Verdict] = ()
    weights: Sequence[Verdict] = ()
    observed: Sequence[Verdict] = ()
    spent_s: Sequence[float] = ()
    """One of each stage that has come to its end; shorter than the stages when one of them ended it all."""
    facts: tuple[Mapping[str, Any], ...] | None = None
    """Of each stage, on what it judged; None when nobody has asked."""
    ranking: Sequence[Ranked] = ()
    full: Sequence[Verdict] = ()
    """What those of the ranking were waited for that could have answered later: a slot, or what another stage holds."""

    @property
    def is_avoided(self) -> bool:
        """Whether every backend of the ranking is avoided."""
        return bool(self.ranking) and self.ranking[0].is_avoided

    def watch(self, intent: RoutingIntent) -> None:
        """Keep what the stages are going to say about *intent*, even if one of them fails."""
        self.excluded, self.avoided = intent.excluded, intent.avoided
        self.weights, self.observed = intent.weights, intent.observed
        self.spent_s = intent.spent_s


class Round(msgspec.Struct, gc=False):
    """One search through the chain: the first, one after each failed attempt, and those while it waited, as one."""

    backends: tuple[Backend, ...]
    """The whole fleet, as it was."""
    models: list[Considered]
    decision: Decision | None = None
    chosen: Considered | None = None
    """That of *models* for which a backend was reserved; None when none was."""
    tries: int = 1
    """How often it was made, all but the last without finding a free slot, or before the backends were probed again."""


class DecisionRecord(msgspec.Struct, gc=False):
    """One request on its way through routing, with all its rounds."""

    request: Request
    rules: Rules
    rounds: list[Round]
    outcome: ExchangeOutcome | None = None
    """None while it is under way."""

    def begin_round(self, backends: tuple[Backend, ...]) -> Round:
        """Return a new round. It replaces the last one if that led to waiting, of which there is no bound, or to a look
        at backends that may have changed.
        """
        tries = 1
        if self.rounds and isinstance(self.rounds[-1].decision, Saturated | Reject):
            tries += self.rounds.pop().tries
        begun = Round(backends, [], tries=tries)
        self.rounds.append(begun)
        return begun

    def forget_facts(self) -> None:
        """Let go of what the stages said on demand."""
        for found in self.rounds:
            for model in found.models:
                model.facts = None

    @property
    def last_reserved(self) -> Reserved | None:
        """Who was chosen last; None when nobody was."""
        chosen = (found.decision for found in reversed(self.rounds))
        return next((decision for decision in chosen if isinstance(decision, Reserved)), None)

    @property
    def last_chosen(self) -> Considered | None:
        """The model for which a backend was reserved in the last round; None when none was."""
        return self.rounds[-1].chosen if self.rounds else None

    def rivals_of(self, reserved: Reserved) -> list[Offer]:
        """Return all other backends that have the model for which *reserved* was chosen last."""
        offers = () if self.last_chosen is None else self.last_chosen.resolution.candidates.values()
        return [offer for offer in offers if offer[0].id != reserved.backend.id]

    @property
    def last_reject(self) -> Reject | None:
        """Why nobody was found in the last round; None when somebody was."""
        decision = self.rounds[-1].decision if self.rounds else None
        return decision if isinstance(decision, Reject) else None


class RecentDecisions:
    """The last thousand, those under way among them."""

    def __init__(self, most: int = MOST_RECORDS) -> None:
        self._records: deque[DecisionRecord] = deque(maxlen=most)
        self._with_facts: deque[DecisionRecord] = deque()
        self.add: Final = self._records.append
        """Keep one more, and forget the oldest for it."""

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[DecisionRecord]:
        """Iterate over them, newest first."""
        return reversed(self._records)

    def add_with_facts(self, record: DecisionRecord) -> None:
        """Keep one more with the facts that it is going to have, and forget the facts of an older one for it."""
        self.add(record)
        self._with_facts.append(record)
        if len(self._with_facts) > MOST_WITH_FACTS:
            self._with_facts.popleft().forget_facts()

    def find(self, id_: str) -> DecisionRecord | None:
        """Return the one whose request has that id, which Nexus made."""
        return next((record for record in self if record.request.id == id_), None)
