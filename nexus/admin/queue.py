"""The requests that wait, for what and for how long (``/admin/queue``)."""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from operator import attrgetter
from time import monotonic
from typing import Any, Final

import msgspec

from nexus.admin.openapi.operation import DescribedRoute, Operation
from nexus.admin.page import json_page
from nexus.admin.parts import Asking
from nexus.domain.priorities import PRIORITIES, RequestPriority
from nexus.domain.routes import Page, PageRequest
from nexus.proxy.exchange.context import DataPlane
from nexus.proxy.waiting.claim import Claim
from nexus.proxy.waiting.request_queue import RequestQueue
from nexus.workers.peers import Peers

QUEUE_PATH: Final = "/admin/queue"
MAX_CLIENTS: Final = 20
MAX_MODELS: Final = 100


class ModelRow(msgspec.Struct, frozen=True):
    """The requests that wait for one model."""

    model: str
    requests: int
    oldest_wait_s: float
    """How long the oldest of them has waited."""
    backends: tuple[str, ...]
    """The backends that it waits for."""
    expected_wait_s: float
    """How long a request of another client would wait, at normal priority, at the measured rates; with several workers,
    in the longest of their queues."""


class BackendRow(msgspec.Struct, frozen=True):
    """One backend that requests wait for."""

    backend: str
    requests: int
    """How many wait for it, among other backends."""
    served_per_second: float | None
    """How many it has taken from the queue each second lately, while some waited; null before the first."""


class ClientRow(msgspec.Struct, frozen=True):
    """The requests of one client, of one priority."""

    client: str
    """The name of its key, or the first digits of the key's SHA-256 digest; without ``api_keys``, its address."""
    priority: RequestPriority
    requests: int
    oldest_wait_s: float


class QueueView(msgspec.Struct, frozen=True, kw_only=True):
    """The body of ``/admin/queue``."""

    enabled: bool
    depth: int
    """How many requests wait."""
    max_size: int
    body_bytes: int
    max_body_bytes: int | None
    oldest_wait_s: float | None
    """How long the oldest has waited; null when none waits."""
    priorities: dict[RequestPriority, int]
    """How many of each priority wait."""
    models: tuple[ModelRow, ...]
    """Those with the most requests first."""
    backends: tuple[BackendRow, ...]
    clients: tuple[ClientRow, ...]
    """The clients with the most requests, at most twenty."""
    enqueued: int
    """How many have begun to wait since the start; each waits, or is counted in one of the next five."""
    drained: int
    """They got a slot."""
    timed_out: int
    shed: int
    """They had to make room for another request."""
    left: int
    """Their client left, the proxy stopped, or no backend could serve them any more."""
    refused: int
    """How many found the queue full, and did not wait."""


def route(plane: DataPlane, peers: Peers | None = None) -> DescribedRoute:
    """Return ``/admin/queue``, with the queues of *peers*."""

    def own(_: None) -> QueueView:
        return view(plane.queue, is_enabled=plane.settings.config.queue.enabled)

    asking = Asking(peers, "page.queue", type(None), QueueView, own)

    async def respond(_: PageRequest) -> Page:
        parts = await asking(None)
        return json_page(merge(parts.present) if parts.others else parts.own, headers=parts.headers)

    return DescribedRoute(
        path=QUEUE_PATH,
        respond=respond,
        access="admin",
        operation=Operation(
            summary="The requests that wait: by priority, model, backend and client", answers=(QueueView,)
        ),
    )


def view(queue: "RequestQueue[Any]", *, is_enabled: bool) -> QueueView:
    """Return the state of *queue*."""
    line, counts, now = queue.line, queue.counts, monotonic()
    models = sorted(_models(queue, now), key=attrgetter("requests"), reverse=True)
    return QueueView(
        enabled=is_enabled,
        depth=len(queue),
        max_size=queue.max_size,
        body_bytes=line.size_bytes,
        max_body_bytes=queue.max_body_bytes,
        oldest_wait_s=round(queue.oldest_s(), 3) if len(queue) else None,
        priorities=dict(zip(PRIORITIES, line.by_rank, strict=True)),
        models=tuple(models[:MAX_MODELS]),
        backends=tuple(_backends(queue)),
        clients=tuple(_clients(queue, now)),
        enqueued=counts.enqueued,
        drained=counts.drained,
        timed_out=counts.timed_out,
        shed=counts.shed,
        left=counts.left,
        refused=counts.refused,
    )


_SUMS: Final = (*("depth", "max_size", "body_bytes", "enqueued", "drained", "timed_out", "shed", "left", "refused"),)


def merge(views: Sequence[QueueView]) -> QueueView:
    """Return the queues of several workers as one; each worker has a queue of its own, and a part of the limits."""
    first = views[0]
    models: dict[str, ModelRow] = {}
    backends: dict[str, BackendRow] = {}
    clients: dict[tuple[str, RequestPriority], ClientRow] = {}
    for each in views:
        for model in each.models:
            before = models.get(model.model)
            models[model.model] = model if before is None else _both_models(before, model)
        for backend in each.backends:
            at = backends.get(backend.backend)
            backends[backend.backend] = backend if at is None else _both_backends(at, backend)
        for client in each.clients:
            of = clients.get((client.client, client.priority))
            clients[client.client, client.priority] = client if of is None else _both_clients(of, client)
    bounds = [each.max_body_bytes for each in views if each.max_body_bytes is not None]
    most = attrgetter("requests")
    return msgspec.structs.replace(
        first,
        **{name: sum(getattr(each, name) for each in views) for name in _SUMS},
        max_body_bytes=sum(bounds) if bounds else None,
        oldest_wait_s=max((each.oldest_wait_s for each in views if each.oldest_wait_s is not None), default=None),
        priorities={priority: sum(each.priorities[priority] for each in views) for priority in first.priorities},
        models=tuple(sorted(models.values(), key=most, reverse=True)[:MAX_MODELS]),
        backends=tuple(backends[name] for name in sorted(backends)),
        clients=tuple(sorted(clients.values(), key=most, reverse=True)[:MAX_CLIENTS]),
    )


def _both_models(one: ModelRow, two: ModelRow) -> ModelRow:
    return ModelRow(
        one.model,
        one.requests + two.requests,
        max(one.oldest_wait_s, two.oldest_wait_s),
        tuple(sorted({*one.backends, *two.backends})),
        max(one.expected_wait_s, two.expected_wait_s),
    )


def _both_backends(one: BackendRow, two: BackendRow) -> BackendRow:
    rates = [rate for rate in (one.served_per_second, two.served_per_second) if rate is not None]
    return BackendRow(one.backend, one.requests + two.requests, round(sum(rates), 3) if rates else None)


def _both_clients(one: ClientRow, two: ClientRow) -> ClientRow:
    oldest_s = max(one.oldest_wait_s, two.oldest_wait_s)
    return ClientRow(one.client, one.priority, one.requests + two.requests, oldest_s)


def _models(queue: "RequestQueue[Any]", now: float) -> Iterator[ModelRow]:
    for model, waiters in queue.line.models.items():
        oldest = next(iter(waiters))
        backends = oldest.group.backends
        forecast = queue.forecast(Claim(client="", model=model), backends)
        yield ModelRow(
            model, len(waiters), _waited_s(oldest.since, now), tuple(sorted(backends)), round(forecast.expected_s, 3)
        )


def _backends(queue: "RequestQueue[Any]") -> Iterator[BackendRow]:
    waiting: Counter[str] = Counter()
    for backends, waiters in queue.line.sets.items():
        for backend in backends:
            waiting[backend] += sum(map(len, waiters))
    rates = queue.rates()
    for backend in sorted(waiting.keys() | rates.keys()):
        rate = rates.get(backend)
        yield BackendRow(backend, waiting[backend], None if rate is None else round(rate, 3))


def _clients(queue: "RequestQueue[Any]", now: float) -> Iterator[ClientRow]:
    for rank, client in islice(queue.line.largest_clients(MAX_CLIENTS), MAX_CLIENTS):
        oldest = next(iter(client.waiters))
        label = oldest.claim.label or client.name
        yield ClientRow(label, PRIORITIES[rank], len(client.waiters), _waited_s(oldest.since, now))


def _waited_s(since: float, now: float) -> float:
    return round(now - since, 3)
