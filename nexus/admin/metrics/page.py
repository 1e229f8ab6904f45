"""The page for Prometheus (``/metrics``), written in slices so that it does not block the event loop."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from time import perf_counter
from typing import Final

import msgspec

from nexus.admin.metrics.format import OPENMETRICS, TEXT, wants_openmetrics
from nexus.admin.openapi.operation import DescribedRoute, Operation
from nexus.admin.parts import headers_of
from nexus.admin.workers import ALONE, Workers
from nexus.domain.routes import Page, PageRequest
from nexus.observability.metrics.exposition import chunks, pieces
from nexus.observability.metrics.families import Family, gauge
from nexus.observability.metrics.label_values import SanitizedLabels
from nexus.observability.metrics.merging import MergedFamilies, messages_of
from nexus.workers.channel import ChannelError
from nexus.workers.peers import Answers, Peers

TURN_S: Final = 0.0004
"""How long the page is written before other tasks get a turn."""
TOPIC: Final = "page.metrics"
ANSWER_S: Final = 1.0
"""How long other workers may take: they write their metrics in turns with all that they do."""


class MetricsPage:
    """The families of all sources, one after the other."""

    def __init__(
        self,
        sources: Sequence[Callable[[], Iterator[Family]]],
        *,
        sanitizes_labels: bool = False,
        one_at_a_time: asyncio.Lock | None = None,
        peers: Peers | None = None,
        workers: Callable[[], Workers] = lambda: ALONE,
    ) -> None:
        """:param one_at_a_time: held while a page is written, as some sources keep notes on the scrape.
        :param peers: the other workers, whose metrics are merged with those of *sources*; None: there are none.
        """
        self._sources = sources
        self._sanitizes_labels = sanitizes_labels
        self._one_at_a_time = one_at_a_time or asyncio.Lock()
        self._peers = peers
        self._workers = workers
        if peers is not None:
            peers.answers(TOPIC, type(None), self.part)

    async def __call__(self, request: PageRequest) -> Page:
        is_openmetrics = wants_openmetrics(request.accept)
        content_type = f"{OPENMETRICS}; version=1.0.0" if is_openmetrics else f"{TEXT}; version=0.0.4"
        answers = await self._ask()
        if answers is None:
            async with self._one_at_a_time:
                written = await self._write(self._families(1), is_openmetrics=is_openmetrics)
        else:
            written = await self._write_merged(answers, is_openmetrics=is_openmetrics)
        if is_openmetrics:
            written.append(b"# EOF\n")
        return Page(200, f"{content_type}; charset=utf-8", b"".join(written), headers_of(answers))

    async def part(self, _: None = None) -> tuple[bytes, ...]:
        """Return the metrics of this worker as messages."""
        sent: list[bytes] = []
        turn = _Turn()
        async with self._one_at_a_time:
            for source in self._sources:
                for family in source():
                    for message in messages_of(family):
                        sent.append(message)
                        await turn.may_end()
        return tuple(sent)

    async def _ask(self) -> Answers | None:
        """Ask all workers; None: there are no others, or none answers, this one included."""
        if self._peers is None:
            return None
        try:
            answers = await self._peers.ask(TOPIC, None, timeout_s=ANSWER_S, is_kept=True)
        except ChannelError:
            return None
        return answers if answers.count else None

    async def _write_merged(self, answers: Answers, *, is_openmetrics: bool) -> list[bytes]:
        merged, turn = MergedFamilies(), _Turn()
        # The present first: they say which families there are.
        for answer in sorted(answers.answers, key=lambda answer: not answer.is_current):
            for message in msgspec.msgpack.decode(answer.payload, type=tuple[bytes, ...]):
                if answer.is_current:
                    merged.add(message, answer.worker)
                else:
                    merged.add_last(message)
                await turn.may_end()
        families = chain(merged.take(), self._worker_families(answers.count))
        return await self._write(families, is_openmetrics=is_openmetrics)

    def _families(self, answered: int) -> Iterator[Family]:
        for source in self._sources:
            yield from source()
        yield from self._worker_families(answered)

    def _worker_families(self, answered: int) -> Iterator[Family]:
        yield gauge("nexus_workers", "Processes that are to serve clients.", self._workers().wanted)
        yield gauge("nexus_workers_answered", "Processes whose metrics are on this page.", answered)

    async def _write(self, families: Iterable[Family], *, is_openmetrics: bool) -> list[bytes]:
        written: list[bytes] = []
        turn = _Turn()
        for made in families:
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
