"""Servers that announce themselves by real mDNS on this machine's network."""

import asyncio
import contextlib
import errno
import uuid
from contextlib import aclosing
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
from zeroconf import IPVersion
from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

from nexus.fleet.discovery.mdns import multicast_check as multicast_module
from nexus.fleet.discovery.mdns import network as network_module
from nexus.fleet.discovery.mdns.announcer import Announcement, announcing, own_addresses
from nexus.fleet.discovery.mdns.discoverer import MdnsDiscoverer
from nexus.fleet.discovery.mdns.instances import MAX_PER_HOST
from nexus.fleet.discovery.mdns.multicast_check import why_multicast_fails
from nexus.fleet.discovery.mdns.network import MulticastUnavailable
from nexus.fleet.discovery.mdns.service import full_types

pytestmark = pytest.mark.skipif(not own_addresses(), reason="this machine has no network")


@pytest.fixture
def service_type():
    """Give a type that no other test announces."""
    return f"_t{uuid.uuid4().hex[:10]}._tcp.local."


@pytest.fixture
async def listen():
    """Accept connections at a port of every interface."""
    async with contextlib.AsyncExitStack() as stack:

        async def listen(port=0):
            server = await asyncio.start_server(lambda _, writer: writer.close(), "0.0.0.0", port)
            stack.push_async_callback(server.wait_closed)
            stack.callback(server.close)
            return server, server.sockets[0].getsockname()[1]

        yield listen


@pytest.fixture
async def network():
    network = AsyncZeroconf(ip_version=IPVersion.All)
    yield network
    await network.async_close()


@pytest.fixture
def host():
    """Give a host name of the test's own: others run on the same network."""
    return f"desk-{uuid.uuid4().hex[:10]}.local."


async def announce(network, service_type, port, label="desk", addresses=None):
    info = AsyncServiceInfo(
        service_type,
        f"{label}.{service_type}",
        port=port,
        parsed_addresses=own_addresses()[:1] if addresses is None else addresses,
        server=f"desk-{uuid.uuid4().hex[:10]}.local.",
    )
    await (await network.async_register_service(info))
    return info


@pytest.fixture
async def watch(service_type):
    """Begin to watch, and give what waits for a look of which something is true."""
    finder = MdnsDiscoverer((service_type,), interval_s=0.1)
    watching = finder.watch()

    async def until(claim, within_s=10.0):
        async with asyncio.timeout(within_s):
            async for seen in watching:
                if claim(seen):
                    return seen
        raise AssertionError("it stopped looking")

    yield until
    await watching.aclose()


async def test_a_server_is_found_lost_without_a_goodbye_and_found_again(listen, network, service_type, watch):
    server, port = await listen()
    info = await announce(network, service_type, port)

    (found,) = await watch(bool)
    server.close()
    await server.wait_closed()
    await watch(lambda seen: not seen)
    await listen(port)
    (again,) = await watch(bool)

    assert (found.name, found.host, found.url.rpartition(":")[2]) == ("desk", info.server.rstrip("."), str(port))
    assert again == found


async def test_a_goodbye_takes_a_server_out_while_it_still_answers(listen, network, service_type, watch):
    _, port = await listen()
    info = await announce(network, service_type, port)
    await watch(bool)

    await (await network.async_unregister_service(info))

    await watch(lambda seen: not seen)


async def test_a_discoverer_that_replaces_another_keeps_its_instances(listen, network, service_type):
    _, port = await listen()
    info = await announce(network, service_type, port, label="My Desk")
    first = MdnsDiscoverer((service_type,), interval_s=0.1)
    async with aclosing(first.watch()) as looks:
        (found,) = await anext(seen async for seen in looks if seen)

    after = MdnsDiscoverer((service_type, "_other._tcp.local."), interval_s=0.1, before=first)
    async with aclosing(after.watch()) as looks:
        assert await anext(looks) == (found,)
    await (await network.async_unregister_service(info))
    without = MdnsDiscoverer(("_other._tcp.local.",), interval_s=0.1, before=after)
    async with aclosing(without.watch()) as looks:
        assert await anext(looks) == ()
    async with aclosing(first.watch()) as looks, asyncio.timeout(10):
        assert await anext(seen async for seen in looks if not seen) == ()


async def test_of_several_addresses_the_one_that_answers_is_taken(listen, network, service_type, watch):
    _, port = await listen()
    await announce(network, service_type, port, addresses=["10.255.255.1", *own_addresses()[:1]])

    (found,) = await watch(bool)

    assert "10.255.255.1" not in found.url


async def test_one_host_has_a_limited_number_of_instances(listen, network, service_type, watch, host):
    for number in range(MAX_PER_HOST + 3):
        _, port = await listen()
        info = AsyncServiceInfo(
            service_type,
            f"desk-{number}.{service_type}",
            port=port,
            parsed_addresses=own_addresses()[:1],
            server=host,
        )
        await network.async_register_service(info, cooperating_responders=True)

    seen = await watch(lambda seen: len(seen) >= MAX_PER_HOST, within_s=20)

    assert len(seen) == MAX_PER_HOST


async def test_a_server_keeps_its_name_when_another_one_announces_it(listen, network, service_type):
    other_type = f"_a{service_type[2:]}"
    finder = MdnsDiscoverer((service_type, other_type), interval_s=0.1)
    (_, first), (_, other) = sorted([await listen(), await listen()], key=lambda pair: -pair[1])
    async with contextlib.aclosing(finder.watch()) as watching, asyncio.timeout(10):
        await announce(network, service_type, first)
        before = await anext(seen async for seen in watching if seen)
        await announce(network, other_type, other)
        both = await anext(seen async for seen in watching if len(seen) == 2)

    assert [found.name for found in before] == ["desk"]
    assert {found.name: int(found.url.rpartition(":")[2]) for found in both} == {"desk": first, f"desk-{other}": other}


async def test_what_announce_publishes_is_found_until_it_ends(listen, watch, service_type, monkeypatch):
    monkeypatch.setattr(Announcement, "service_type", property(lambda _: service_type))
    _, port = await listen()

    async with announcing(Announcement(name="my mac", port=port, kind="ollama")) as label:
        (found,) = await watch(bool)
    await watch(lambda seen: not seen)

    assert (label, found.name, found.kind) == ("my mac", "my mac", "ollama")


async def test_multicast_works_where_an_announcement_comes_back():
    assert await why_multicast_fails() is None


@pytest.mark.parametrize(
    ("ips", "reason"),
    [
        (["127.0.0.1", ("::1", 0, 0)], "this machine is connected to no network"),
        (["127.0.0.1", ("fe80::1", 0, 2)], None),
        (["127.0.0.1", "192.168.1.2"], None),
    ],
)
async def test_a_machine_with_loopback_alone_is_on_no_network(monkeypatch, ips, reason):
    addresses = [SimpleNamespace(ip=ip) for ip in ips]
    monkeypatch.setattr(network_module.ifaddr, "get_adapters", lambda: [SimpleNamespace(ips=addresses)])
    refusal = MulticastUnavailable("not to be tried here")
    monkeypatch.setattr(multicast_module, "join_network", Mock(side_effect=refusal))

    assert await why_multicast_fails() == (reason or "multicast cannot be used: not to be tried here")


async def test_multicast_that_cannot_be_used_is_explained(monkeypatch):
    def refuse(**_):
        raise OSError(errno.ENODEV, "No such device")

    monkeypatch.setattr(network_module, "AsyncZeroconf", refuse)

    assert await why_multicast_fails() == "multicast cannot be used: No such device"


async def test_a_type_without_its_ends_is_completed():
    assert full_types(("_ollama._tcp",)) == ("_ollama._tcp.local.",)
