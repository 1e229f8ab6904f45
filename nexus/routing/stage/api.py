"""The interface of a stage: the reconciler, what it holds for an attempt, and the standard priorities."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import IntEnum
from types import MappingProxyType
from typing import Any, ClassVar, Final, Literal

import msgspec

from nexus.domain.backend import Backend
from nexus.domain.fleet import FleetSnapshot
from nexus.domain.measure import Measure
from nexus.domain.outcome import AttemptOutcome
from nexus.domain.request import Requirements, TokenUsage
from nexus.routing.intent import RoutingIntent

NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})


class Priority(IntEnum):
    """The standard priorities, lower first. Operators can change them in ``[routing] priorities``."""

    ANALYZE = 0
    """Which backends can answer: protocol, capabilities, context; built in."""
    LIFECYCLE = 100
    """Which models are being loaded or moved."""
    PRIVACY = 200
    """Where the data may go; before stages that only prefer."""
    BUDGET = 300
    """What the request may cost."""
    TIER = 400
    """How capable the model must be."""
    QUALITY = 500
    """Which backends have been failing or slow."""
    AFFINITY = 600
    """Which backends have the conversation in their cache."""
    SCHEDULE = 1000
    """Which of the remaining backends gets the request; built in."""


Fact = Literal["capabilities", "context", "stream"]
"""Something about a single request that remembered verdicts may depend on: the capabilities that the model must have
(``needs_…``); whether it fits into the context of every candidate (``context_tokens``; verdicts on one that may not are
never remembered); and whether the answer is streamed."""


class Hold(ABC):
    """Something held for the duration of one attempt, such as a slot or a part of a budget."""

    __slots__ = ()

    @abstractmethod
    def settle(self, outcome: AttemptOutcome) -> None:
        """Give it back. Called exactly once, synchronously, however the attempt ended."""

    def begin_answer(self, usage: TokenUsage | None) -> None:
        """Note that the first content of a streamed answer has arrived; called at most once, before :meth:`settle`.

        :param usage: the tokens reported so far, of which those of the prompt are final; None if there are none.
        """
        del usage

    def headers(self, usage: TokenUsage | None) -> Mapping[str, str]:
        """Return ``X-Nexus-*`` headers for the client; called once, right before the head of the answer is sent.

        :param usage: the tokens that the answer used; None while they are not known, as in a stream.
        """
        del usage
        return NO_HEADERS

    def listener(self) -> Callable[[str], None] | None:
        """Return a function that gets the text of the answer, in pieces, before the hold is settled; None for none.

        Called once, before the request is sent. The text of an answer that is not streamed is passed on only when the
        backend does not report a usage. Nothing of the request is ever passed on.
        """
        return None

    def cost_usd(self) -> float | None:
        """Return the cost of the attempt in US dollars, None if unknown; called once, after it is settled."""
        return None


class Refusal(msgspec.Struct, frozen=True):
    """A stage cannot hold what an attempt at this backend needs; the next one in the ranking is tried."""

    reason: str
    is_saturation: bool = False
    """Whether waiting helps: the request may then queue until a slot is free or a service calls its ``wake``."""
    action: str = ""
    """What the client or the operator could do about it."""
    context: Mapping[str, Any] | None = None
    """Facts for the client's error body, when this leaves no backend."""
    is_preference: bool = False
    """With ``is_saturation``, whether waiting is only better than sending the request: it keeps a request from going to
    a backend of lower priority instead. One whose requirements say that it may not wait must not be refused so."""
    retry_in_s: float | None = None
    """With ``is_saturation``, after how many seconds the requests that wait try again even if no slot becomes free."""


class Reconciler(ABC):
    """A stage: it excludes, avoids or weighs candidates of a request, each time with a reason.

    It is synchronous, does no I/O, and decides from the intent alone, never from the verdicts of other stages.
    """

    name: ClassVar[str]
    """Unique among all installed stages."""
    priority: ClassVar[int]
    """Its place in the pipeline; see :class:`Priority`."""
    on_error: ClassVar[Literal["reject", "skip"]] = "reject"
    """What a failure of this stage means for the request. Rejecting is the default, so that no check is bypassed."""

    wants_prompt_blocks: ClassVar[bool] = False
    """Whether it decides by ``prompt_blocks`` or ``conversation`` of the requirements. They are computed on demand, and
    only if several backends of the fleet, healthy or not, have the model or one of its fallbacks. The stage is not
    called, neither to reconcile nor to reserve, for a request that has none of the two and no hints."""

    depends_on: ClassVar[frozenset[Fact] | None] = None
    """What its verdicts depend on besides what many requests share: the candidates, except for their live ``load`` and
    the time of their last check, the endpoint, the policies, and the model's name as sent and as resolved. If set,
    Nexus remembers the verdicts until the candidates or :meth:`version` change, and calls :meth:`reconcile` only for
    the first of all requests that are alike in this. None, the default: they may depend on anything, so it is called
    for each request.

    Requests with hints, and those that were tried elsewhere before, are always judged by themselves.
    """

    on_store_failure: str | None = None
    """What it does while the store fails, in one word for ``/ready``; None if it needs no store."""

    is_observed: bool = False
    """Whether the operator lets it only observe; then :meth:`reserve` is not called. Nexus sets this at start."""

    @abstractmethod
    def reconcile(self, intent: RoutingIntent) -> None:
        """Exclude, avoid or weigh candidates of *intent*.

        Also called for requests that are only explained, so anything that changes state belongs in :meth:`reserve`.
        """

    def is_idle(self, policies: Sequence[Mapping[str, Any]]) -> bool:
        """Return whether it never gives a verdict, as long as the client sends no hints.

        Asked once for each configuration. An idle stage is not called for requests without hints; unless it implements
        :meth:`may_hold`, not to reserve anything either.

        :param policies: for each traffic policy, its decoded keys by the name of the plugin, and at the end the
            defaults of all keys; empty if there are no policies.
        """
        del policies
        return False

    def is_quiet(self, snapshot: FleetSnapshot, requirements: Requirements) -> bool:
        """Return whether it would give no verdict and hold nothing now, as long as the client sends no hints.

        Asked for each request, if implemented, so it must take no longer than comparing a number.

        :param snapshot: of the fleet whose backends it would judge.
        :param requirements: those of the request.
        """
        del snapshot, requirements
        return False

    def version(self, snapshot: FleetSnapshot) -> int:
        """Return a number that changes whenever verdicts that are remembered may be different now.

        Only asked if ``depends_on`` is set: for each request, if implemented, so it must take no longer than comparing
        a few numbers. A stage that measures something can so have its verdicts remembered until they change.

        :param snapshot: of the fleet whose backends it would judge.
        """
        del snapshot
        return 0

    def may_judge(self, backend: Backend, model: str) -> bool:
        """Return whether it may give a verdict on *backend*, as long as the client sends no hints.

        The answer is remembered until the fleet changes; where it may judge no candidate, it is not called.

        :param model: the backend's own name for the model.
        """
        del backend, model
        return True

    def may_hold(self, backend: Backend, model: str) -> bool:
        """Return whether :meth:`reserve` may return anything at *backend*, as long as the client sends no hints.

        The answer is remembered until the fleet changes, or :meth:`version` does if ``depends_on`` is set.

        :param model: the backend's own name for the model.
        """
        del backend, model
        return True

    def may_count(self, intent: RoutingIntent) -> bool:
        """Return whether :meth:`count` would count anything for *intent*, or for any request judged like it.

        Only asked if ``depends_on`` is set, and remembered with the verdicts.

        :param intent: without hints.
        """
        del intent
        return True

    def count(self, intent: RoutingIntent) -> None:
        """Count the verdicts of this stage on *intent*, for its metrics.

        Called after each :meth:`reconcile`, and also for a request to which remembered verdicts are applied instead.

        :param intent: with the verdicts of this stage only, which can no longer be changed.
        """
        del intent

    def reserve(self, intent: RoutingIntent, backend: Backend) -> Hold | Refusal | None:
        """Hold what an attempt at *backend* needs; None when it needs nothing."""
        del intent, backend
        return None

    def would_refuse(self, intent: RoutingIntent, backend: Backend) -> Refusal | None:
        """Return the refusal that :meth:`reserve` would give now, without holding anything; for explaining requests."""
        del intent, backend
        return None

    def explain(self, intent: RoutingIntent) -> Mapping[str, Any]:
        """Return the facts by which this stage judges *intent*, for people: JSON values, no prompt content.

        Called only for explanations, after :meth:`reconcile`, so it may be slow; *intent* has all its candidates
        again, including excluded ones.
        """
        del intent
        return {}

    def describe(self, intent: RoutingIntent) -> Mapping[str, str]:
        """Return what this stage knows of each candidate, by the backend's name: one short sentence for people.

        Called only for explanations, as :meth:`explain` is; a candidate of which nothing is known may be left out.
        """
        del intent
        return {}

    def measures(self) -> Iterable[Measure]:
        """Return the metrics of this stage; called at every scrape.

        Each name begins with ``nexus_<plugin>_``; labels have few values, none of which a client chooses. Beyond 1000
        samples of one measure, counters are summed under ``other`` and gauges are dropped. A counter that starts again
        at zero after a reload continues from its old value.
        """
        return ()

    def report(self) -> Mapping[str, Any]:
        """Return what ``/v1/stats`` shows under the name of this stage: few facts, as JSON values.

        What is under ``backends``, by their names, is added to the rows of these backends instead. Must be fast.
        """
        return {}
