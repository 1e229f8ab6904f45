"""What a request waits with follows from its headers, its key and its size."""

import asyncio
from itertools import pairwise
from time import monotonic

import pytest

from nexus.errors import RequestError
from nexus.proxy.client.access import AccessRules, KeyOwner
from nexus.proxy.client.key_filter import digest_of
from nexus.proxy.exchange.slot_wait import longest_wait_s
from nexus.routing.stage.api import Reconciler, Refusal
from nexus.testing.builders import MODEL
from tests.support.fake_backends import whole
from tests.support.rig import turns


@pytest.mark.parametrize(
    ("asked", "seconds"),
    [
        *[("5", 5.0), (" 0.5 ", 0.5), ("0", 0.0), ("-0", 0.0)],
        *[("", None), ("-1", None), ("nan", None), ("inf", None), ("soon", None), ("1_0", None)],
    ],
)
def test_the_longest_wait_is_a_number_of_seconds(asked, seconds):
    found = longest_wait_s(asked)

    assert found == seconds
    assert "-" not in str(found)


@pytest.fixture
def waiting(rig):
    """Let a request wait for gpu-1, and return what the queue knows of it."""
    rig.backend("gpu-1", max_in_flight=1, in_flight=1)

    async def wait(*headers, **requirements):
        failover = rig.failover(*headers, **requirements)
        rig.search(failover)
        await turns()
        return rig.line.line.all_in_turn()[-1]

    return wait


async def test_a_request_waits_with_its_size(waiting):
    waiter = await waiting(prompt_tokens=1000, max_tokens=50)

    # The length of an answer is expected to be 256 tokens, unless the client accepts fewer.
    assert (waiter.claim.tokens, waiter.claim.model, waiter.claim.client) == (1050, MODEL, "unknown")
    assert waiter.claim.size_bytes > 0
    assert waiter.group.backends == {"gpu-1"}


async def test_the_key_of_a_client_caps_its_priority(rig, waiting):
    digest = digest_of(b"secret")
    owners = {digest: KeyOwner("batch", "batch", "normal")}
    rules = AccessRules(accepts_key=lambda key: key == b"secret", hosts=None, origins=frozenset(), owners=owners)
    rig.come_from(rules, digest)

    waiter = await waiting(("X-Nexus-Priority", "high"))

    assert (waiter.claim.client, waiter.claim.rank) == ("batch", 1)


async def test_requests_of_another_kind_wait_apart(waiting):
    alike = [await waiting(max_tokens=number) for number in (1, 2)]
    others = [
        await waiting(needs_tools=True),
        await waiting(is_stream=True),
        await waiting(("X-Nexus-Priority", "low")),
    ]

    groups = [waiter.group for waiter in (*alike, *others)]

    assert groups[0] is groups[1]
    assert len(set(groups)) == 4


async def test_the_queue_timeout_of_the_client_ends_its_wait(rig):
    rig.backend("gpu-1", max_in_flight=1, in_flight=1)

    with pytest.raises(RequestError, match="X-Nexus-Queue-Timeout") as refused:
        await rig.failover(("X-Nexus-Queue-Timeout", "0")).find_answer()

    error = refused.value
    assert (error.code, error.retry_after_s) == ("queue_timeout", 1)
    assert error.context["queue"]["limited_by"] == "X-Nexus-Queue-Timeout"
    assert error.context["available_backends"] == ["gpu-1"]


class ForATime(Reconciler):
    """Refuses for so many tries, each time for a short time."""

    name = "for-a-time"
    priority = 500

    def __init__(self, refusals):
        self.tried_at = []
        self._refusals = refusals

    def reconcile(self, intent):
        pass

    def reserve(self, intent, backend):
        self.tried_at.append(monotonic())
        if len(self.tried_at) <= self._refusals:
            return Refusal("not yet", is_saturation=True, retry_in_s=0.02)
        return None


async def test_a_refusal_for_a_time_lets_the_request_try_again_then(make_rig):
    stage = ForATime(refusals=3)
    rig = make_rig(stage)
    rig.backend("gpu-1", whole())

    attempt = await rig.failover().find_answer()

    gaps = [after - before for before, after in pairwise(stage.tried_at)]
    assert attempt.backend.name == "gpu-1"
    assert len(gaps) == 3
    assert all(0.015 < gap < 1 for gap in gaps)
    assert (rig.line.counts.drained, len(rig.line)) == (1, 0)


async def test_of_requests_that_are_refused_for_a_time_only_the_first_tries(make_rig):
    stage = ForATime(refusals=10**9)
    rig = make_rig(stage)
    rig.settings.router.built_in |= {stage.name}
    rig.backend("gpu-1", whole())
    for _ in range(5):
        rig.search(rig.failover())
    await turns()
    tried = len(stage.tried_at)

    await asyncio.sleep(0.07)

    # Each has tried once before it began to wait; then only the first, each time.
    assert tried == 5
    assert 1 <= len(stage.tried_at) - tried <= 4
