"""``/admin/queue`` shows what waits, for what and for how long, and no key."""

import msgspec
import pytest

from nexus.admin.queue import MAX_CLIENTS, QueueView, merge, view
from nexus.proxy.waiting.claim import Claim
from nexus.proxy.waiting.fair_queue import Waiter
from nexus.proxy.waiting.request_queue import RequestQueue

NOW = 100.0


@pytest.fixture
def queue(monkeypatch):
    for module in ("nexus.admin.queue", "nexus.proxy.waiting.request_queue"):
        monkeypatch.setattr(f"{module}.monotonic", lambda: NOW)
    return RequestQueue(max_size=7, max_wait_s=None, max_body_bytes=1000)


def add(queue, since, backends=("gpu-1",), **claim):
    queue.line.push(Waiter(Claim(**claim), since), frozenset(backends))


def test_an_empty_queue_says_so(queue):
    queue.counts.enqueued, queue.counts.left = 3, 3

    shown = view(queue, is_enabled=False)

    assert (shown.enabled, shown.depth, shown.max_size, shown.oldest_wait_s) == (False, 0, 7, None)
    assert shown.priorities == {"high": 0, "normal": 0, "low": 0}
    assert (shown.models, shown.backends, shown.clients) == ((), (), ())
    assert (shown.enqueued, shown.left) == (3, 3)


def test_the_requests_are_shown_by_model_backend_and_client(queue):
    add(queue, 90.0, client="ab" * 32, label="key abababab", rank=2, model="llama3", size_bytes=10)
    add(queue, 95.0, client="cd" * 32, label="chat", rank=0, model="llama3", size_bytes=10)
    add(queue, 97.0, ("gpu-1", "gpu-2"), client="cd" * 32, label="chat", rank=0, model="qwen3")
    queue._rates = {}

    shown = view(queue, is_enabled=True)

    assert (shown.depth, shown.body_bytes, shown.max_body_bytes, shown.oldest_wait_s) == (3, 20, 1000, 10.0)
    assert shown.priorities == {"high": 2, "normal": 0, "low": 1}
    assert [(row.model, row.requests, row.oldest_wait_s, row.backends) for row in shown.models] == [
        ("llama3", 2, 10.0, ("gpu-1",)),
        ("qwen3", 1, 3.0, ("gpu-1", "gpu-2")),
    ]
    # Two of higher priority are before it, and gpu-1 counts as taking one request per second; then gpu-2 too.
    assert [row.expected_wait_s for row in shown.models] == pytest.approx([3.0, 1.5])
    assert [(row.backend, row.requests, row.served_per_second) for row in shown.backends] == [
        ("gpu-1", 3, None),
        ("gpu-2", 1, None),
    ]
    assert [(row.client, row.priority, row.requests, row.oldest_wait_s) for row in shown.clients] == [
        ("chat", "high", 2, 5.0),
        ("key abababab", "low", 1, 10.0),
    ]


def test_of_many_clients_those_with_the_most_requests_are_shown(queue):
    for number in range(2 * MAX_CLIENTS):
        for _ in range(1 + number % 2):
            add(queue, 0.0, client=f"10.0.0.{number}")

    shown = view(queue, is_enabled=True)

    assert [row.requests for row in shown.clients] == [2] * MAX_CLIENTS
    assert all(row.client.startswith("10.0.0.") for row in shown.clients)


def test_the_queues_of_several_workers_are_shown_as_one(queue):
    add(queue, 90.0, client="cd" * 32, label="chat", rank=0, model="llama3", size_bytes=10)
    one = view(queue, is_enabled=True)
    add(queue, 95.0, ("gpu-1", "gpu-2"), client="ab" * 32, label="key abababab", rank=2, model="qwen3", size_bytes=5)
    two = msgspec.msgpack.decode(msgspec.msgpack.encode(view(queue, is_enabled=True)), type=QueueView)

    shown = merge([one, two])

    assert (shown.depth, shown.max_size, shown.enqueued) == (3, 2 * one.max_size, one.enqueued + two.enqueued)
    assert (shown.body_bytes, shown.max_body_bytes, shown.oldest_wait_s) == (25, 2000, 10.0)
    assert shown.priorities == {"high": 2, "normal": 0, "low": 1}
    assert [(row.model, row.requests) for row in shown.models] == [("llama3", 2), ("qwen3", 1)]
    assert [(row.backend, row.requests) for row in shown.backends] == [("gpu-1", 3), ("gpu-2", 1)]
    assert [(row.client, row.requests) for row in shown.clients] == [("chat", 2), ("key abababab", 1)]
