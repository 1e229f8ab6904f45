"""Counts restricted requests and the backends that they excluded; the counts outlive reloads."""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Final, Literal

from nexus.api import Measure, RoutingIntent, Sample

Source = Literal["policy", "default", "header"]
"""What restricted a request: a traffic policy, ``default`` of ``[plugins.privacy]``, or only the client."""

SOURCES: Final[tuple[Source, ...]] = ("policy", "default", "header")

MAX_REMEMBERED: Final = 4096
"""Requests; what was counted for older ones is forgotten."""


class RestrictionCounters:
    """Counts each request once, although routing repeats the search for a backend.

    The search is repeated after a failed attempt, for each fallback, and for each freed slot while the request waits.
    """

    def __init__(self) -> None:
        self._requests = dict.fromkeys(SOURCES, 0)
        self._backends = dict.fromkeys(SOURCES, 0)
        self._counted: OrderedDict[tuple[str, float], Sequence[str]] = OrderedDict()
        """By request, the names of the excluded backends."""

    def note(self, intent: RoutingIntent, source: Source) -> None:
        """Count a restricted request and the backends that were excluded for it."""
        request = intent.request_id, intent.received_unix_s
        excluded = [verdict.backend for verdict in intent.excluded]
        counted = self._counted.get(request)
        if counted is None:
            self._counted[request] = excluded
            self._requests[source] += 1
            self._backends[source] += len(excluded)
            if len(self._counted) > MAX_REMEMBERED:
                self._counted.popitem(last=False)
            return
        # Few requests are searched for more than once.
        new = {*excluded}.difference(counted)
        self._backends[source] += len(new)
        self._counted[request] = [*counted, *new]

    def measures(self) -> Iterator[Measure]:
        """Return the metrics."""
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
