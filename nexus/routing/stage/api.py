"""What a stage of the pipeline is: one class, one method, one declared place."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from enum import IntEnum
from types import MappingProxyType
from typing import Any, ClassVar, Final, Literal

import msgspec

from nexus.domain.backend import Backend
from nexus.domain.measure import Measure
from nexus.domain.outcome import AttemptOutcome
from nexus.domain.request import TokenUsage
from nexus.routing.intent import RoutingIntent

NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})


class Priority(IntEnum):
    """The standard bands, lower first. Operators have the last word in ``[routing] priorities``."""

    ANALYZE = 0
    """Who has the model and speaks the protocol; built in."""
    LIFECYCLE = 100
    """Whose model is being loaded or moved."""
    PRIVACY = 200
    """Where the data may go; before anything that only prefers."""
    BUDGET = 300
    """What it may cost."""
    TIER = 400
    """How capable a model must be."""
    QUALITY = 500
    """Who has been failing or slow."""
    AFFINITY = 600
    """Who has the conversation in its cache."""
    SCHEDULE = 1000
    """Who of the survivors gets it; built in."""


class Hold(ABC):
    """Something held for the length of one attempt: a slot, an estimate of money."""

    __slots__ = ()

    @abstractmethod
    def settle(self, outcome: AttemptOutcome) -> None:
        """Give it back. Called exactly once, synchronously, however the attempt ended."""

    def headers(self, usage: TokenUsage | None) -> Mapping[str, str]:
        """Return ``X-Nexus-*`` headers for the client, asked for once, right before the answer's head is written.

        :param usage: what the answer cost in tokens, None while that is not known, as in a stream.
        """
        del usage
        return NO_HEADERS

    def listener(self) -> Callable[[str], None] | None:
        """Return what is to be told the text of the answer, in pieces, before it is settled; None: nobody listens.

        Asked for once, before the request is sent. Of an answer that is not streamed it is told the text only when the
        backend does not report a usage. It never gets anything of the request.
        """
        return None

    def cost_usd(self) -> float | None:
        """Return what the attempt has cost in US dollars, asked for once after it is settled; None: nobody knows."""
        return None


class Refusal(msgspec.Struct, frozen=True):
    """A stage cannot hold what this backend would need; the next ranked one is asked."""

    reason: str
    is_saturation: bool = False
    """Whether waiting helps: the request may then queue, until a slot is freed or a service calls its ``wake``."""
    action: str = ""
    """What the client or the operator could do about it."""
    context: Mapping[str, Any] | None = None
    """Facts for the client's error body, when this is why nobody is left."""


class Reconciler(ABC):
    """A stage: it narrows or weighs the candidates of one request, each time with a reason.

    Synchronous, without I/O, and decides from the intent alone, never from what other stages excluded.
    """

    name: ClassVar[str]
    """Unique among all installed stages."""
    priority: ClassVar[int]
    """Its place; see :class:`Priority`."""
    on_error: ClassVar[Literal["reject", "skip"]] = "reject"
    """What a failure of this stage means for the request: a broken privacy stage must not open the door."""

    is_observed: bool = False
    """Whether the operator lets it only observe: then :meth:`reserve` is not called. Set by Nexus at the start."""

    @abstractmethod
    def reconcile(self, intent: RoutingIntent) -> None:
        """Exclude, avoid or weigh candidates of *intent*.

        Asked for requests that are only explained, too: whatever changes something belongs into :meth:`reserve`.
        """

    def reserve(self, intent: RoutingIntent, backend: Backend) -> Hold | Refusal | None:
        """Hold what this attempt at *backend* needs; None when it needs nothing."""
        del intent, backend
        return None

    def would_refuse(self, intent: RoutingIntent, backend: Backend) -> Refusal | None:
        """Return what :meth:`reserve` would refuse now, and hold nothing: for explaining what would be decided."""
        del intent, backend
        return None

    def explain(self, intent: RoutingIntent) -> Mapping[str, Any]:
        """Return the facts on which this stage judges *intent*, for people: JSON values, no prompt content.

        Asked only when somebody wants to know, after :meth:`reconcile`, so it may take its time; *intent* has all its
        candidates again, those that are out among them.
        """
        del intent
        return {}

    def measures(self) -> Iterable[Measure]:
        """Return what Prometheus is told of this stage, whenever it asks.

        Each name begins with ``nexus_<plugin>_``; labels have few values, none of which a client chooses. Of more than
        1000 samples of one measure, those beyond are told as one: a counter as ``other``, a gauge not at all. A counter
        that begins anew after a reload goes on where it was.
        """
        return ()

    def report(self) -> Mapping[str, Any]:
        """Return what ``/v1/stats`` shows of this stage, under its name: few facts, as JSON values.

        What it says under ``backends``, by their names, is added to their rows instead. Must be quick.
        """
        return {}
