"""What a request waits with follows from its headers, its key and its size."""

import pytest

from nexus.errors import RequestError
from nexus.proxy.client.access import AccessRules, KeyOwner
from nexus.proxy.client.key_filter import digest_of
from nexus.proxy.exchange.slot_wait import longest_wait_s
from nexus.testing.builders import MODEL
from tests.support.rig import turns


@pytest.mark.parametrize(
    ("asked", "seconds"),
    [("5", 5.0), (" 0.5 ", 0.5), ("0", 0.0), ("", None), ("-1", None), ("nan", None), ("inf", None), ("soon", None)],
)
def test_the_longest_wait_is_a_number_of_seconds(asked, seconds):
    assert longest_wait_s(asked) == seconds


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
