"""Servers that announce themselves: probed without credentials, and kept out of the fleet until approved."""

import asyncio

import pytest

from nexus.config.discovery_schema import DiscoveryConfig
from nexus.config.schema import HealthCheckConfig
from nexus.domain.backend import Status
from nexus.fleet.discovery.approval import applicants as module
from nexus.fleet.discovery.approval.applicants import MAX_PER_HOST, AnotherServer, NotRecognised
from nexus.fleet.discovery.discoverer import Discovered, Discoverer
from nexus.fleet.membership.registry import BackendNotFound
from nexus.fleet.probing.detection import Detection
from nexus.store.memory import MemoryStore

LOOKS = DiscoveryConfig(enabled=False, grace_period_seconds=0)


class Network(Discoverer):
    """Announces what the test says."""

    name = "network"
    needs_approval = True

    def __init__(self, name="network"):
        self.name = name
        self.looks = asyncio.Queue(100)

    def announce(self, *found):
        self.looks.put_nowait(found)

    async def watch(self):
        while True:
            yield await self.looks.get()


@pytest.fixture(autouse=True)
def loopback_is_another_machine(monkeypatch):
    monkeypatch.setattr(module, "may_be_probed", lambda _: True)


@pytest.fixture
def network():
    return Network()


def pending(fleet):
    return {applicant.name: applicant.kind for applicant in fleet.applicants}


@pytest.fixture
def found(plan, start, eventually, network):
    """Start a fleet that has recognised a server, which announced itself as ``found``."""

    async def found(server, kind="vllm", **options):
        fleet = await start(plan(discovery=LOOKS, **options), discoverers=[network])
        network.announce(Discovered("found", server.url))
        await eventually(lambda: pending(fleet) == {"found": kind})
        return fleet

    return found


@pytest.fixture
def approved(found, eventually):
    """Start a fleet in which the server ``found`` is approved."""

    async def approved(server, kind="vllm", **options):
        fleet = await found(server, kind, **options)
        await fleet.approve("found")
        await eventually(lambda: fleet.snapshot.having("tiny"))
        return fleet

    return approved


async def test_a_server_joins_the_fleet_when_it_is_approved(serve, eventually, network, found):
    server = await serve("vllm", "tiny")
    fleet = await found(server)

    assert not fleet.snapshot.backends

    await fleet.approve("found")
    await eventually(lambda: fleet.snapshot.having("tiny"))

    (backend,) = fleet.snapshot.backends
    assert (backend.status, backend.zone, backend.discovery_source) == (Status.HEALTHY, "open", "network")
    assert pending(fleet) == {}


async def test_the_kind_of_a_server_is_detected_without_credentials(serve, found):
    server = await serve("vllm", "tiny")

    await found(server)

    sent = {name.lower() for request in server.requests for name in request.headers}
    assert not sent & {"authorization", "x-api-key", "cookie"}
    assert {request.method for request in server.requests} == {"GET"}


async def test_an_approval_outlasts_a_restart(serve, plan, start, eventually, network):
    server, store = await serve("vllm", "tiny"), MemoryStore()
    await store.open()
    fleet = await start(plan(discovery=LOOKS), discoverers=[network], store=store)
    network.announce(Discovered("found", server.url))
    await eventually(lambda: pending(fleet) == {"found": "vllm"})
    await fleet.approve("found")
    await fleet.stop()

    again = Network()
    fleet = await start(plan(discovery=LOOKS), discoverers=[again], store=store)
    again.announce(Discovered("found", server.url))

    await eventually(lambda: fleet.snapshot.having("tiny"))


async def test_a_server_of_another_kind_under_an_approved_name_is_pending(serve, eventually, network, found):
    server, other = await serve("vllm", "tiny"), await serve("ollama", "tiny")
    fleet = await found(server)
    await fleet.approve("found")

    network.announce(Discovered("found", other.url))

    await eventually(lambda: pending(fleet) == {"found": "ollama"})
    assert not fleet.snapshot.backends


async def test_another_kind_at_an_approved_address_is_unhealthy_and_then_pending(
    serve, eventually, network, monkeypatch, fast, approved
):
    monkeypatch.setattr(module, "FIRST_PAUSE_S", 0.0)
    server, other = await serve("generic", "tiny"), await serve("vllm", "tiny")
    fleet = await approved(server, "generic", health_check=fast)

    # It answers all the questions that are asked of a generic one.
    server.answers = other.answers
    await eventually(lambda: fleet.snapshot.backends[0].status is Status.UNHEALTHY)
    (row,) = fleet.snapshot.backends
    network.announce(Discovered("found", server.url))

    await eventually(lambda: not fleet.snapshot.backends or network.announce(Discovered("found", server.url)))
    assert pending(fleet) == {"found": "vllm"}
    assert row.last_error == "another server has taken its place: its kind is 'vllm', not 'generic'"


async def test_a_rejected_server_leaves_the_fleet_and_stays_listed(serve, plan, start, eventually, network):
    server = await serve("vllm", "tiny")
    fleet = await start(
        plan(discovery=DiscoveryConfig(enabled=False, trust="allow", allow=("127.0.0.0/8",))), discoverers=[network]
    )
    network.announce(Discovered("found", server.url))
    await eventually(lambda: fleet.snapshot.having("tiny"))

    await fleet.reject("found")

    assert not fleet.snapshot.backends
    assert [applicant.trust for applicant in fleet.applicants] == ["rejected"]


async def test_a_server_that_does_not_answer_cannot_be_approved(plan, start, eventually, network, free_port):
    fleet = await start(plan(discovery=LOOKS), discoverers=[network])
    network.announce(Discovered("found", f"http://127.0.0.1:{free_port}"))
    await eventually(lambda: pending(fleet) == {"found": None})

    with pytest.raises(NotRecognised, match="not recognised"):
        await fleet.approve("found")
    with pytest.raises(BackendNotFound):
        await fleet.approve("unknown")


async def test_a_decision_about_another_address_is_refused(serve, eventually, found):
    server = await serve("vllm", "tiny")
    fleet = await found(server)

    for decide in (fleet.approve, fleet.reject):
        with pytest.raises(AnotherServer, match="check it again before you decide"):
            await decide("found", url="http://10.0.0.9:8000")
    assert [applicant.trust for applicant in fleet.applicants] == ["pending"]

    await fleet.approve("found", url=server.url)
    await eventually(lambda: fleet.snapshot.having("tiny"))


async def test_another_nexus_is_never_listed(serve, plan, start, eventually, network):
    server = await serve("ollama", "llama3", headers={"X-Nexus-Version": "0.5.0"})
    fleet = await start(plan(discovery=DiscoveryConfig(enabled=False, trust="all")), discoverers=[network])
    network.announce(Discovered("loop", server.url))
    await eventually(lambda: server.asked)
    await eventually(lambda: not fleet.applicants)

    assert not fleet.snapshot.backends


async def test_a_configured_backend_needs_no_approval(serve, plan, start, eventually, network):
    server = await serve("vllm", "tiny")
    fleet = await start(plan(discovery=LOOKS, gpu=server.url), discoverers=[network])
    network.announce(Discovered("found", server.url))
    await asyncio.sleep(0.1)

    assert ([backend.name for backend in fleet.snapshot.backends], fleet.applicants) == (["gpu"], ())


async def test_a_flood_displaces_no_server_that_is_known(serve, plan, start, eventually, network):
    server = await serve("vllm", "tiny")
    fleet = await start(plan(discovery=LOOKS), discoverers=[network])
    known = Discovered("zzz", server.url)
    network.announce(known)
    await eventually(lambda: pending(fleet) == {"zzz": "vllm"})
    await fleet.approve("zzz")
    await eventually(lambda: fleet.snapshot.having("tiny"))

    network.announce(*(Discovered(f"a{number}", f"http://127.0.0.1:{number}") for number in range(1, 900)), known)
    await eventually(lambda: len(fleet.applicants) == MAX_PER_HOST - 1)

    assert [backend.name for backend in fleet.snapshot.backends] == ["zzz"]


async def test_two_sources_with_one_name_are_two_servers(serve, plan, start, eventually, network):
    first, second = await serve("vllm", "tiny"), await serve("ollama", "other")
    beside = Network("beside")
    fleet = await start(plan(discovery=LOOKS), discoverers=[network, beside])
    network.announce(Discovered("desk", first.url))
    await eventually(lambda: pending(fleet) == {"desk": "vllm"})
    beside.announce(Discovered("desk", second.url))
    port = second.url.rpartition(":")[2]
    await eventually(lambda: pending(fleet) == {"desk": "vllm", f"desk-{port}": "ollama"})

    await fleet.approve("desk")
    await eventually(lambda: fleet.snapshot.having("tiny"))

    assert [(backend.name, backend.url) for backend in fleet.snapshot.backends] == [("desk", first.url)]
    assert pending(fleet) == {f"desk-{port}": "ollama"}
    assert fleet.found_counts == {
        ("network", "approved"): 1,
        ("network", "pending"): 0,
        ("network", "rejected"): 0,
        ("beside", "approved"): 0,
        ("beside", "pending"): 1,
        ("beside", "rejected"): 0,
    }


async def test_a_server_that_two_sources_see_is_one_backend_with_both_sources(serve, plan, start, eventually, network):
    server = await serve("vllm", "tiny")
    trusted = Network("trusted")
    trusted.needs_approval = False
    fleet = await start(plan(discovery=LOOKS), discoverers=[network, trusted])
    network.announce(Discovered("desk", server.url))
    await eventually(lambda: pending(fleet) == {"desk": "vllm"})
    await fleet.approve("desk")
    await eventually(lambda: fleet.snapshot.having("tiny"))
    trusted.announce(Discovered("gpu-7", server.url))
    (backend,) = fleet.snapshot.backends
    await eventually(lambda: fleet.origin_of(backend.id).also_found_by)

    origin = fleet.origin_of(backend.id)
    (after,) = fleet.snapshot.backends

    assert (after.name, after.discovery_source, origin.also_found_by) == ("desk", "network", ("trusted",))
    assert (pending(fleet), origin.is_stale, after.load is backend.load) == ({}, False, True)


async def test_a_server_has_its_name_again_after_a_backend_at_its_address(serve, plan, start, eventually, network):
    server = await serve("vllm", "tiny")
    fleet = await start(plan(discovery=LOOKS), discoverers=[network])
    network.announce(Discovered("desk", server.url))
    await eventually(lambda: pending(fleet) == {"desk": "vllm"})

    await fleet.added.add({"name": "desk", "url": server.url}, persist=False)
    while_added = pending(fleet)
    await fleet.added.remove("desk")

    assert while_added == {}
    assert pending(fleet) == {"desk": "vllm"}


async def test_a_server_in_its_grace_period_is_stale(serve, plan, start, eventually, network):
    server = await serve("vllm", "tiny")
    network.needs_approval = False
    discovery = DiscoveryConfig(enabled=False, grace_period_seconds=60)
    fleet = await start(plan(discovery=discovery), discoverers=[network])
    network.announce(Discovered("desk", server.url))
    await eventually(lambda: fleet.snapshot.having("tiny"))
    (backend,) = fleet.snapshot.backends
    seen = fleet.origin_of(backend.id)

    network.announce()
    await eventually(lambda: fleet.origin_of(backend.id).is_stale)
    missed = fleet.origin_of(backend.id)

    assert (seen.is_stale, missed.joined_unix_s) == (False, seen.joined_unix_s)
    assert abs(missed.last_seen_unix_s - seen.last_seen_unix_s) < 1.0


async def test_a_name_that_the_file_takes_is_no_longer_that_of_a_found_server(
    serve, plan, start, eventually, network, free_port
):
    server = await serve("vllm", "tiny")
    fleet = await start(plan(discovery=LOOKS), discoverers=[network])
    network.announce(Discovered("desk", server.url))
    await eventually(lambda: pending(fleet) == {"desk": "vllm"})

    fleet.reconfigure(plan(discovery=LOOKS, desk=f"http://127.0.0.1:{free_port}"))

    port = server.url.rpartition(":")[2]
    assert pending(fleet) == {f"desk-{port}": "vllm"}
    with pytest.raises(BackendNotFound):
        await fleet.approve("desk")


async def test_a_rejected_server_does_not_come_back_under_another_name(serve, plan, start, eventually, network):
    server, others = await serve("vllm", "tiny"), Network("others")
    config = DiscoveryConfig(enabled=False, trust="all")
    fleet = await start(plan(discovery=config), discoverers=[network, others])
    network.announce(Discovered("found", server.url))
    others.announce(Discovered("seen", server.url))
    await eventually(lambda: fleet.snapshot.having("tiny"))
    (backend,) = fleet.snapshot.backends

    await fleet.reject(backend.name)
    network.announce(Discovered("renamed", server.url))

    await eventually(lambda: "renamed" in pending(fleet) and pending(fleet)["renamed"])
    assert not fleet.snapshot.backends

    await fleet.approve("renamed")
    await eventually(lambda: fleet.snapshot.having("tiny"))


async def test_an_approved_server_stays_whatever_else_it_announces(serve, eventually, network, found):
    server = await serve("vllm", "tiny")
    fleet = await found(server)
    await fleet.approve("found")
    seen = []
    fleet.on_change(lambda snapshot: seen.append(len(snapshot.backends)))

    network.announce(Discovered("found", server.url, "ollama", "desk.local"), Discovered("later", "http://127.0.0.1:1"))
    await eventually(lambda: "later" in pending(fleet))

    assert set(seen) <= {1}
    assert len(fleet.snapshot.backends) == 1


async def test_another_kind_at_an_approved_address_gets_no_request_after_its_first_answer(serve, eventually, approved):
    # However many failures it takes else.
    health_check = HealthCheckConfig(interval_seconds=0.05, timeout_seconds=1.0, failure_threshold=1000)
    server, other = await serve("generic", "tiny"), await serve("vllm", "tiny")
    fleet = await approved(server, "generic", health_check=health_check)

    server.answers = other.answers

    await eventually(lambda: [row.status for row in fleet.snapshot.backends] == [Status.UNHEALTHY])
    assert [row.may_be_asked for row in fleet.snapshot.backends] == [False]


async def test_an_approved_server_that_is_overloaded_stays_approved(serve, eventually, monkeypatch, found):
    monkeypatch.setattr(module, "RECHECK_S", 0.02)
    monkeypatch.setattr(module, "FIRST_PAUSE_S", 0.02)
    monkeypatch.setattr(module, "MIN_PAUSE_S", 0.02)
    shown = iter([Detection("ollama", 200), Detection("generic", 200, is_certain=False)])
    later = Detection("ollama", 200)
    looks = []

    async def detect(*_):
        looks.append(next(shown, later))
        return looks[-1]

    monkeypatch.setattr(module, "detect", detect)
    server = await serve("ollama", "tiny")
    fleet = await found(server, "ollama")
    joined = []
    fleet.on_change(lambda snapshot: joined.append(len(snapshot.backends)))
    await fleet.approve("found")

    await eventually(lambda: len(looks) > 3)
    assert set(joined) == {1}

    later = Detection("generic", 200, is_certain=False)
    await eventually(lambda: not fleet.snapshot.backends)
    assert pending(fleet) == {"found": "generic"}
