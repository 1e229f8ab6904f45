"""DNS names that are followed while the configuration changes, against a real name server."""

import threading

import pytest
from dnslib import RCODE

from nexus.config.discovery_schema import DiscoveryConfig, DnsSourceConfig

ONE, TWO = DnsSourceConfig(name="_llm._tcp.one.test", type="vllm"), DnsSourceConfig(name="_llm._tcp.two.test")


@pytest.fixture
def of(zone, plan):
    """Plan a fleet that follows these names."""
    return lambda *names: plan(
        discovery=DiscoveryConfig(enabled=False, dns=names, nameservers=(f"127.0.0.1:{zone.port}",))
    )


@pytest.fixture
async def fleet(zone, of, serve, start, eventually):
    """Give a fleet that has found the server of the first name."""
    server = await serve("vllm", "tiny")
    zone.serve(ONE.name, server.port, ttl=0)
    fleet = await start(of(ONE))
    await eventually(lambda: fleet.snapshot.having("tiny"))
    return fleet


@pytest.fixture
def changes(fleet):
    """Give the names of the fleet's backends at each change from now on."""
    seen = []
    fleet.on_change(lambda snapshot: seen.append({backend.name for backend in snapshot.backends}))
    return seen


async def test_a_name_that_is_added_disturbs_no_server_of_another(zone, of, fleet, changes, serve, eventually):
    (before,) = fleet.snapshot.backends
    other = await serve("vllm", "big")
    zone.serve(TWO.name, other.port, ttl=0)
    zone.delays[ONE.name] = threading.Event()

    fleet.reconfigure(of(ONE, TWO))
    await eventually(lambda: fleet.snapshot.having("big"))

    assert all(before.name in names for names in changes)
    assert fleet.snapshot.by_id[before.id].load is before.load


async def test_the_servers_of_a_name_that_is_not_followed_any_more_leave(zone, of, fleet, eventually):
    zone.codes[TWO.name] = RCODE.SERVFAIL

    fleet.reconfigure(of(TWO))

    await eventually(lambda: not fleet.snapshot.backends)


async def test_name_servers_that_fail_after_a_reload_change_nothing(zone, fleet, changes, plan, eventually):
    zone.codes[ONE.name] = RCODE.SERVFAIL
    (before,) = fleet.snapshot.backends

    config = DiscoveryConfig(enabled=False, dns=(ONE,), nameservers=(f"127.0.0.1:{zone.port}", "127.0.0.9"))
    fleet.reconfigure(plan(discovery=config))
    await eventually(lambda: fleet._discoverers.dns.states[ONE].failure)

    assert all(before.name in names for names in changes)


async def test_a_name_that_is_followed_again_is_found_again(zone, of, fleet, eventually):
    fleet.reconfigure(of())
    await eventually(lambda: not fleet.snapshot.backends)

    fleet.reconfigure(of(ONE))

    await eventually(lambda: fleet.snapshot.having("tiny"))
