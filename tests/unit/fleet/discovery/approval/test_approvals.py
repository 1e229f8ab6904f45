import pytest

from nexus.errors import StoreError
from nexus.fleet.discovery.approval import approvals as module
from nexus.fleet.discovery.approval.approvals import Approvals
from nexus.fleet.discovery.approval.trust import Trust
from nexus.fleet.discovery.discoverer import Discovered
from nexus.store.memory import MemoryStore

DESK = Discovered("desk", "http://192.168.1.5:11434")


@pytest.fixture
async def store():
    store = MemoryStore()
    await store.open()
    yield store
    await store.close()


async def test_a_decision_outlasts_the_process(store):
    await Approvals(store).decide("mdns", DESK, "ollama", Trust.APPROVED)

    after = Approvals(store)
    await after.open()

    assert after.get(("mdns", "desk")).holds_for(DESK, "ollama")


async def test_the_last_decision_counts(store):
    approvals = Approvals(store)
    await approvals.decide("mdns", DESK, "ollama", Trust.APPROVED)
    await approvals.decide("mdns", DESK, "ollama", Trust.REJECTED)
    await approvals.open()

    assert approvals.get(("mdns", "desk")).trust is Trust.REJECTED


async def test_a_name_as_long_as_names_may_be_is_stored(store):
    await Approvals(store).decide("mdns", Discovered("ä" * 256, DESK.url), "ollama", Trust.APPROVED)


async def test_the_oldest_decision_makes_room(store, monkeypatch):
    monkeypatch.setattr(module, "MAX_APPROVALS", 2)
    approvals = Approvals(store)
    for name in ("a", "b", "c"):
        await approvals.decide("mdns", Discovered(name, DESK.url), "ollama", Trust.APPROVED)

    after = Approvals(store)
    await after.open()

    assert [bool(after.get(("mdns", name))) for name in ("a", "b", "c")] == [False, True, True]


async def test_a_decision_that_is_not_stored_does_not_hold(store, monkeypatch):
    async def refuse(*_):
        raise StoreError("the disk is full")

    monkeypatch.setattr(store, "apply", refuse)
    approvals = Approvals(store)

    with pytest.raises(StoreError):
        await approvals.decide("mdns", DESK, "ollama", Trust.APPROVED)

    assert approvals.get(("mdns", "desk")) is None


async def test_a_decision_that_is_not_stored_leaves_the_one_before(store, monkeypatch):
    approvals = Approvals(store)
    await approvals.decide("mdns", DESK, "ollama", Trust.REJECTED)
    during = []

    async def refuse(*_):
        during.append(approvals.get(("mdns", "desk")).trust)
        raise StoreError("the disk is full")

    monkeypatch.setattr(store, "apply", refuse)
    with pytest.raises(StoreError):
        await approvals.decide("mdns", DESK, "ollama", Trust.APPROVED)

    assert [*during, approvals.get(("mdns", "desk")).trust] == [Trust.REJECTED, Trust.REJECTED]


@pytest.mark.parametrize("last", [Trust.REJECTED, Trust.APPROVED])
async def test_the_last_decision_about_an_address_is_known_whatever_the_name(store, monkeypatch, last):
    seconds = iter((1.0, 2.0))
    monkeypatch.setattr(module, "unix_now", lambda: next(seconds))
    first = Trust.APPROVED if last is Trust.REJECTED else Trust.REJECTED
    approvals = Approvals(store)
    await approvals.decide("mdns", DESK, "ollama", first)
    await approvals.decide("subnets", Discovered("192.168.1.5:11434", DESK.url), "ollama", last)

    after = Approvals(store)
    await after.open()

    assert [each.is_rejected_at(DESK.url) for each in (approvals, after)] == [last is Trust.REJECTED] * 2
    assert after.is_rejected_at(f"{DESK.url}/v1") is (last is Trust.REJECTED)
    assert not after.is_rejected_at("http://192.168.1.6:11434")
