"""The page for Prometheus (``/metrics``), written in turns so that no request waits for all of it."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from time import perf_counter
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from nexus.admin.metrics.format import OPENMETRICS, TEXT, wants_openmetrics
from nexus.domain.routes import Page, PageRequest
from nexus.observability.metrics.exposition import pieces
from nexus.observability.metrics.families import Family
from nexus.observability.metrics.label_values import sanitized_labels, with_sanitized_labels

TURN_S: Final = 0.0005
"""How long it writes before it lets others have a turn."""


class MetricsPage:
    """Everything that Prometheus is told."""

    def __init__(
        self,
        sources: Sequence[Callable[[], Iterator[Family]]],
        registry: CollectorRegistry,
        *,
        sanitizes_labels: bool = False,
    ) -> None:
        """:param registry: what the client library collects, and what stages tell: a few series."""
        self._sources = sources
        self._collected: Collector = _Sanitized(registry) if sanitizes_labels else registry
        self._sanitizes_labels = sanitizes_labels

    async def __call__(self, asked: PageRequest) -> Page:
        is_openmetrics = wants_openmetrics(asked.accept)
        encode, content_type = choose_encoder(OPENMETRICS if is_openmetrics else TEXT)
        written: list[bytes] = []
        began = perf_counter()
        for piece in pieces(self._families(), is_openmetrics=is_openmetrics):
            written.append(piece)
            if perf_counter() - began > TURN_S:
                await asyncio.sleep(0)
                began = perf_counter()
        # Last, because in OpenMetrics it ends with the mark of the end.
        written.append(encode(self._collected))
        return Page(200, content_type, b"".join(written))

    def _families(self) -> Iterator[Family]:
        for source in self._sources:
            for family in source():
                yield with_sanitized_labels(family) if self._sanitizes_labels else family


class _Sanitized(Collector):
    """What a registry collects, with the names among its labels sanitised."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterable[Metric]:
        for metric in self._registry.collect():
            samples: dict[tuple[str, frozenset[tuple[str, str]]], Sample] = {}
            for sample in metric.samples:
                labels = sanitized_labels(sample.labels)
                key = sample.name, frozenset(labels.items())
                before = samples[key].value if key in samples else 0.0
                samples[key] = sample._replace(labels=labels, value=before + sample.value)
            sanitized = Metric(metric.name, metric.documentation, metric.type, metric.unit)
            sanitized.samples = list(samples.values())
            yield sanitized
