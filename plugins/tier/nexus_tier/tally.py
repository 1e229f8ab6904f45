"""How many requests wanted a tier, what that kept them from, and how many were downgraded: each counted once."""

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import Final, Literal

from nexus.api import Measure, RoutingIntent, Sample
from nexus_tier.floor import Mode

Objection = Literal["excluded", "avoided"]

MOST_REMEMBERED: Final = 4096
"""Requests under way; of one that is older, what it has been counted for is forgotten."""


class Tally:
    """Lives as long as the process.

    The search for a backend begins anew after each failed attempt, for each fallback, and with each freed slot while a
    request waits. It remains one request.
    """

    def __init__(self) -> None:
        self._requests: dict[Mode, int] = {"strict": 0, "flexible": 0}
        self._backends: dict[Objection, int] = {"excluded": 0, "avoided": 0}
        self._counted: OrderedDict[tuple[str, float], set[tuple[Objection, str]]] = OrderedDict()
        """By request, what was said against which backend."""
        self.downgrades = 0

    def note(self, intent: RoutingIntent, mode: Mode, objections: Iterable[tuple[Objection, str]]) -> None:
        """Count that *intent* wants more than the lowest tier, and what spoke against which backend."""
        request = intent.request_id, intent.received_unix_s
        counted = self._counted.get(request)
        if counted is None:
            counted = self._counted[request] = set()
            self._requests[mode] += 1
            if len(self._counted) > MOST_REMEMBERED:
                self._counted.popitem(last=False)
        new = set(objections) - counted
        counted |= new
        for objection, _ in new:
            self._backends[objection] += 1

    def measures(self) -> Iterator[Measure]:
        """Return what Prometheus is told."""
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
            "Backends that were kept for the case that nobody else was left, each once per request.",
            Sample(self._backends["avoided"]),
        )
        yield _counter("nexus_tier_downgrades", "Answers from below the tier that was wanted.", Sample(self.downgrades))


def _counter(name: str, documentation: str, *samples: Sample) -> Measure:
    return Measure(name=name, documentation=documentation, type="counter", samples=samples)
