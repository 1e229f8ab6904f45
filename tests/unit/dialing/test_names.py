"""Host names are resolved for the time of their records, and keep their addresses while no name server responds."""

import asyncio
import socket

import pytest
import structlog

from nexus.dialing import names
from nexus.dialing.dial import Address
from nexus.testing.waiting import eventually
from tests.support.dialing import Resolver, dial_and_close, fault_of
from tests.support.scripted import ScriptedBackend, Stall


async def test_a_name_is_looked_up_once_in_a_while(name_servers):
    resolver = Resolver(gpu="127.0.0.1")
    name_servers(resolver, Resolver())
    async with ScriptedBackend([Stall()]) as backend:
        for _ in range(2):
            await dial_and_close(Address("gpu.test", backend.port))

    assert resolver.lookups == ["gpu.test"]


async def test_a_name_whose_backend_is_gone_is_looked_up_again(name_servers):
    resolver = Resolver(gpu="127.0.0.1")
    name_servers(resolver, Resolver())
    async with ScriptedBackend([Stall()]) as backend:
        address = Address("gpu.test", backend.port)
        await dial_and_close(address)

    assert await fault_of(address) == "refused"
    resolver.known.clear()
    assert await fault_of(address) == "refused"
    assert resolver.lookups == ["gpu.test", "gpu.test"]


async def test_a_name_that_cannot_be_looked_up_any_more_keeps_its_last_good_addresses(name_servers, monkeypatch):
    monkeypatch.setattr(names, "MAX_TTL_S", 0.0)
    monkeypatch.setattr(names, "RETRY_S", 0.0)
    resolver = Resolver(gpu="127.0.0.1")
    name_servers(resolver, Resolver())
    async with ScriptedBackend([Stall()]) as backend:
        address = Address("gpu.test", backend.port)
        await dial_and_close(address)

        resolver.known.clear()
        with structlog.testing.capture_logs() as log:
            for _ in range(3):
                await dial_and_close(address)
        resolver.known["gpu"] = "127.0.0.1"
        with structlog.testing.capture_logs() as told:
            await dial_and_close(address)

    assert log == [
        {"event": "name_lookup_failed", "host": "gpu.test", "reason": "not known", "log_level": "warning"},
    ]
    assert told == [{"event": "name_lookup_recovered", "host": "gpu.test", "log_level": "info"}]
    assert names.stale_since("gpu.test", address.port) is None


async def test_a_name_server_that_does_not_answer_does_not_use_up_the_deadline(name_servers, monkeypatch):
    monkeypatch.setattr(names, "MAX_TTL_S", 0.0)
    monkeypatch.setattr(names, "SECOND_LOOK_S", 0.05)
    name_servers(Resolver(gpu="127.0.0.1"), Resolver())
    async with ScriptedBackend([Stall()]) as backend:
        address = Address("gpu.test", backend.port)
        await dial_and_close(address)

        monkeypatch.setattr(names, "look_up", lambda host, port, asks_system: asyncio.sleep(60))
        connections = await asyncio.gather(*(dial_and_close(address, timeout_s=1.0) for _ in range(5)))

    assert len(connections) == 5


async def test_a_name_that_was_denied_twice_is_not_connected_to(name_servers, monkeypatch):
    monkeypatch.setattr(names, "MAX_TTL_S", 0.0)
    monkeypatch.setattr(names, "RETRY_S", 0.0)
    resolver = Resolver(gpu="127.0.0.1")
    systems = Resolver()
    name_servers(resolver, systems)
    async with ScriptedBackend([Stall()]) as backend:
        address = Address("gpu.test", backend.port)
        await dial_and_close(address)

        resolver.known.clear()
        resolver.failure = systems.failure = socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        await dial_and_close(address)
        assert await fault_of(address) == "refused"
        resolver.known["gpu"] = "127.0.0.1"
        await dial_and_close(address)


async def test_a_name_that_only_the_system_knows_is_found(name_servers):
    ours, systems = Resolver(), Resolver(gpu="127.0.0.1")
    name_servers(ours, systems)
    async with ScriptedBackend([Stall()]) as backend:
        await dial_and_close(Address("gpu.test", backend.port))
        await dial_and_close(Address("gpu.local", backend.port))

    assert (ours.lookups, systems.lookups) == (["gpu.test"], ["gpu.test", "gpu.local"])


async def test_a_limited_number_of_names_is_cached(name_servers, monkeypatch):
    monkeypatch.setattr(names, "MAX_NAMES", 2)
    resolver = Resolver(**{f"gpu-{number}": "127.0.0.1" for number in range(5)})
    name_servers(resolver, Resolver())
    async with ScriptedBackend([Stall()]) as backend:
        for number in range(5):
            await dial_and_close(Address(f"gpu-{number}.test", backend.port))

    assert len(names._names) <= 2


@pytest.mark.parametrize("addresses", ["127.0.0.2 127.0.0.1", "127.0.0.1 127.0.0.2"])
async def test_of_several_addresses_the_next_one_is_tried_when_one_refuses(name_servers, addresses):
    name_servers(Resolver(gpu=addresses), Resolver())
    async with ScriptedBackend([Stall(), Stall(), Stall(), Stall()]) as backend:
        for _ in range(4):
            await dial_and_close(Address("gpu.test", backend.port))


async def test_connections_are_spread_over_the_addresses_of_each_family(name_servers):
    name_servers(Resolver(gpu="::1 127.0.0.1 ::2 127.0.0.2"), Resolver())

    orders = [[info[4][0] for info in await names.resolve("gpu.test", 80)] for _ in range(4)]

    assert {tuple(order) for order in orders} == {
        ("::1", "::2", "127.0.0.1", "127.0.0.2"),
        ("::2", "::1", "127.0.0.2", "127.0.0.1"),
    }
    assert orders[0] != orders[1]


@pytest.mark.parametrize(("ttl_s", "holds_s"), [(0, 5), (12, 12), (86_400, 300)])
async def test_addresses_hold_for_the_time_of_their_records_within_bounds(name_servers, ttl_s, holds_s):
    resolver = Resolver(gpu="127.0.0.1")
    resolver.ttl_s = float(ttl_s)
    name_servers(resolver, Resolver())
    before = asyncio.get_running_loop().time()

    await names.resolve("gpu.test", 80)

    assert names.in_use(("gpu.test", 80)).fresh_until - before == pytest.approx(holds_s, abs=0.5)


async def test_a_name_in_use_is_looked_up_in_the_background_and_one_out_of_use_is_not(name_servers, monkeypatch):
    monkeypatch.setattr(names, "MIN_TTL_S", 0.01)
    monkeypatch.setattr(names, "MAX_TTL_S", 0.01)
    resolver = Resolver(gpu="127.0.0.1")
    name_servers(resolver, Resolver())
    await names.resolve("gpu.test", 80)
    resolver.known["gpu"] = "127.0.0.2"

    await eventually(lambda: names.in_use(("gpu.test", 80)).hosts == {names.packed("127.0.0.2")})
    await eventually(lambda: not names._names["gpu.test", 80].is_used)
    await asyncio.sleep(0.05)
    asked = len(resolver.lookups)
    await asyncio.sleep(0.05)

    assert len(resolver.lookups) == asked
