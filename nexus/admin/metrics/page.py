"""The page for Prometheus (``/metrics``), written in slices so that it does not block the event loop."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from time import perf_counter
from typing import Final

from nexus.admin.metrics.format import OPENMETRICS, TEXT, wants_openmetrics
from nexus.admin.openapi.operation import DescribedRoute, Operation
from nexus.domain.routes import Page, PageRequest
from nexus.observability.metrics.exposition import chunks, pieces
from nexus.observability.metrics.families import Family
from nexus.observability.metrics.label_values import SanitizedLabels

TURN_S: Final = 0.0004
"""How long the page is written before other tasks get a turn."""


class MetricsPage:
    """The families of all sources, one after the other."""

    def __init__(
        self,
        sources: Sequence[Callable[[], Iterator[Family]]],
        *,
        sanitizes_labels: bool = False,
        one_at_a_time: asyncio.Lock | None = None,
    ) -> None:
        """:param one_at_a_time: held while a page is written, as some sources keep notes on the scrape."""
        self._sources = sources
        self._sanitizes_labels = sanitizes_labels
        self._one_at_a_time = one_at_a_time or asyncio.Lock()

    async def __call__(self, request: PageRequest) -> Page:
        is_openmetrics = wants_openmetrics(request.accept)
        content_type = f"{OPENMETRICS}; version=1.0.0" if is_openmetrics else f"{TEXT}; version=0.0.4"
        async with self._one_at_a_time:
            written = await self._write(is_openmetrics=is_openmetrics)
        if is_openmetrics:
            written.append(b"# EOF\n")
        return Page(200, f"{content_type}; charset=utf-8", b"".join(written))

    async def _write(self, *, is_openmetrics: bool) -> list[bytes]:
        written: list[bytes] = []
        turn = _Turn()
        for source in self._sources:
            for made in source():
                await turn.may_end()
                family = await _sanitized(made, turn) if self._sanitizes_labels else made
                for piece in pieces((family,), is_openmetrics=is_openmetrics):
                    written.append(piece)
                    await turn.may_end()
        return written

    def route(self) -> DescribedRoute:
        """Return ``/metrics``."""
        operation = Operation(
            summary="Metrics for Prometheus, in OpenMetrics when Accept asks for it", content_types=(TEXT, OPENMETRICS)
        )
        return DescribedRoute(path="/metrics", respond=self, operation=operation)


class _Turn:
    """What is done before other tasks run."""

    def __init__(self) -> None:
        self._began = perf_counter()

    async def may_end(self) -> None:
        """Let other tasks run if the turn has taken long."""
        if perf_counter() - self._began > TURN_S:
            await asyncio.sleep(0)
            self._began = perf_counter()


async def _sanitized(family: Family, turn: _Turn) -> Family:
    labels = SanitizedLabels(family)
    for rows in chunks(family.rows):
        labels.add(rows)
        await turn.may_end()
    return labels.family()
