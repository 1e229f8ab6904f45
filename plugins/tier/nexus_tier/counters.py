"""Counts requests that need a tier, the backends that are too weak for them, and downgrades; outlives reloads."""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Final, Literal

from nexus.api import Measure, RoutingIntent, Sample
from nexus_tier.floor import Mode

Objection = Literal["excluded", "avoided"]
Objections = tuple[Sequence[str], Sequence[str]]
"""The names of excluded backends, and of avoided ones."""

MAX_REMEMBERED: Final = 4096
"""Requests; what was counted for older ones is forgotten."""


class TierCounters:
    """Counts each request once, although routing repeats the search for a backend.

    The search is repeated after a failed attempt, for each fallback, and for each freed slot while the request waits.
    """

    def __init__(self) -> None:
        self._requests: dict[Mode, int] = {"strict": 0, "flexible": 0}
        self._backends: dict[Objection, int] = {"excluded": 0, "avoided": 0}
        self._counted: OrderedDict[tuple[str, float], Objections] = OrderedDict()
        """By request, the objections to backends."""
        self.downgrades = 0

    def note(self, intent: RoutingIntent, mode: Mode) -> None:
        """Count a request that needs more than the lowest tier, and the objections to backends."""
        request = intent.request_id, intent.received_unix_s
        found = [verdict.backend for verdict in intent.excluded], [verdict.backend for verdict in intent.avoided]
        counted = self._counted.get(request)
        if counted is None:
            self._counted[request] = found
            self._requests[mode] += 1
            self._backends["excluded"] += len(found[0])
            self._backends["avoided"] += len(found[1])
            if len(self._counted) > MAX_REMEMBERED:
                self._counted.popitem(last=False)
            return
        # Few requests are searched for more than once.
        excluded, avoided = map(_without, found, counted)
        self._backends["excluded"] += len(excluded)
        self._backends["avoided"] += len(avoided)
        self._counted[request] = [*counted[0], *excluded], [*counted[1], *avoided]

    def measures(self) -> Iterator[Measure]:
        """Return the metrics."""
        yield _counter(
            "nexus_tier_requests",
            "Requests that wanted more than the lowest tier.",
            *(Sample(count, {"mode": mode}) for mode, count in self._requests.items()),
        )
        yield _counter(
            "nexus_tier_backends_excluded",
            "Backends that requests were kept from, each once per request.",
            Sample(self._backends["excluded"]),
        )
        yield _counter(
            "nexus_tier_backends_avoided",
            "Backends that were avoided because others were better, each once per request.",
            Sample(self._backends["avoided"]),
        )
        yield _counter("nexus_tier_downgrades", "Answers from below the tier that was wanted.", Sample(self.downgrades))


def _without(names: Sequence[str], others: Sequence[str]) -> list[str]:
    """Return those of *names* that are none of *others*."""
    return [*dict.fromkeys(name for name in names if name not in others)]


def _counter(name: str, documentation: str, *samples: Sample) -> Measure:
    return Measure(name=name, documentation=documentation, type="counter", samples=samples)
