"""How many requests were restricted, and from how many backends they were kept: counted once for each request."""

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import Final, Literal

from nexus.api import Measure, RoutingIntent, Sample

Source = Literal["policy", "default", "header"]
"""Who has asked for it: a traffic policy, ``default`` of ``[plugins.privacy]``, or the client alone."""

SOURCES: Final[tuple[Source, ...]] = ("policy", "default", "header")

MOST_REMEMBERED: Final = 4096
"""Requests under way; of one that is older, what it has been counted for is forgotten."""


class Tally:
    """Lives as long as the process.

    The search for a backend begins anew after each failed attempt, for each fallback, and with each freed slot while a
    request waits. It remains one request.
    """

    def __init__(self) -> None:
        self._requests = dict.fromkeys(SOURCES, 0)
        self._backends = dict.fromkeys(SOURCES, 0)
        self._counted: OrderedDict[tuple[str, float], set[str]] = OrderedDict()
        """By request, the names of the backends that it was kept from."""

    def note(self, intent: RoutingIntent, source: Source, excluded: Iterable[str]) -> None:
        """Count that *intent* is restricted, and was kept from the *excluded* backends."""
        request = intent.request_id, intent.received_unix_s
        counted = self._counted.get(request)
        if counted is None:
            counted = self._counted[request] = set()
            self._requests[source] += 1
            if len(self._counted) > MOST_REMEMBERED:
                self._counted.popitem(last=False)
        new = set(excluded) - counted
        counted |= new
        self._backends[source] += len(new)

    def measures(self) -> Iterator[Measure]:
        """Return what Prometheus is told."""
        yield _counter(
            "nexus_privacy_requests_restricted", "Requests that had to stay in the restricted zone.", self._requests
        )
        yield _counter(
            "nexus_privacy_backends_excluded",
            "Backends that restricted requests were kept from, each once per request.",
            self._backends,
        )


def _counter(name: str, documentation: str, counts: dict[Source, int]) -> Measure:
    samples = tuple(Sample(count, {"by": source}) for source, count in counts.items())
    return Measure(name=name, documentation=documentation, type="counter", samples=samples)
