"""What the queue tells of the requests that wait for one backend."""

from nexus.proxy.waiting.claim import Claim
from nexus.proxy.waiting.fair_queue import FairQueue, Waiter

HIGH, NORMAL, LOW = range(3)


def test_the_requests_and_clients_that_wait_for_a_backend_are_counted_by_priority():
    queue = FairQueue()
    for client, rank, backends in (
        ("a", HIGH, {"gpu"}),
        ("a", NORMAL, {"gpu", "other"}),
        ("b", NORMAL, {"gpu"}),
        ("b", NORMAL, {"gpu"}),
        ("c", LOW, {"other"}),
    ):
        queue.push(Waiter(Claim(client=client, rank=rank), 0.0), frozenset(backends))

    assert queue.waiting_for("gpu") == (4, (1, 2, 0))
    assert queue.waiting_for("other") == (2, (0, 1, 1))
    assert queue.waiting_for("unknown") == (0, (0, 0, 0))
