"""Single lookups at a real name server."""

import pytest
from dnslib import RCODE

from nexus.config.discovery_schema import DnsSourceConfig
from nexus.fleet.discovery.dns import discoverer as dns
from nexus.fleet.discovery.dns.answers import LookupFailed, servers_of
from nexus.fleet.discovery.dns.discoverer import NoSuchName

MANY = DnsSourceConfig(name="many.test", port=8000)
SERVICE = DnsSourceConfig(name="_llm._tcp.test")


@pytest.fixture(autouse=True)
def many(zone):
    zone.addresses("many.test", "10.0.0.1", "fd00::1")


@pytest.fixture
def find(zone, monkeypatch):
    """Look a source up at the zone, and return its servers."""
    monkeypatch.setattr(dns, "QUERY_TIMEOUT_S", 0.5)
    monkeypatch.setattr(dns, "TRIES", 1)

    async def find(source, before=()):
        return servers_of(source, await dns._look_up(source, (f"127.0.0.1:{zone.port}",), before))

    return find


def urls(found):
    return sorted(server.url for server in found)


async def test_addresses_of_both_families_are_servers(find):
    assert urls(await find(MANY)) == ["http://10.0.0.1:8000", "http://[fd00::1]:8000"]


@pytest.mark.parametrize("kind", ["A", "AAAA"])
async def test_a_family_that_cannot_be_looked_up_keeps_its_servers(find, zone, kind):
    before = await find(MANY)
    zone.failing_kinds = {kind}
    zone.addresses("many.test", "10.0.0.2", "fd00::2")

    now = urls(await find(MANY, before))

    assert now == (
        ["http://10.0.0.1:8000", "http://[fd00::2]:8000"]
        if kind == "A"
        else ["http://10.0.0.2:8000", "http://[fd00::1]:8000"]
    )


async def test_only_both_together_fail_or_deny(find, zone):
    zone.failing_kinds = {"A", "AAAA"}
    with pytest.raises(LookupFailed):
        await find(MANY)
    zone.failing_kinds, zone.code = set(), RCODE.NXDOMAIN
    with pytest.raises(NoSuchName):
        await find(MANY)


async def test_targets_without_additional_addresses_are_looked_up_at_the_same_servers(find, zone):
    zone.adds_addresses = False
    zone.addresses("gpu.test", "10.0.0.1")
    zone.servers(SERVICE.name, ("gpu.test.", 8000), ("elsewhere.example.", 8000))

    assert urls(await find(SERVICE)) == ["http://10.0.0.1:8000", "http://elsewhere.example:8000"]


@pytest.mark.parametrize("addresses", [("10.0.0.1", "10.0.0.2", "fd00::1"), ("fd00::1", "10.0.0.2", "10.0.0.1")])
async def test_a_target_of_several_addresses_is_the_same_server_in_whatever_order(find, zone, addresses):
    zone.addresses("gpu.test", *addresses)
    zone.servers(SERVICE.name, ("gpu.test.", 8000))

    assert urls(await find(SERVICE)) == ["http://10.0.0.1:8000"]


async def test_a_server_is_looked_up_again_when_its_address_expires(zone):
    zone.addresses("gpu.test", "10.0.0.1", ttl=7)
    zone.servers(SERVICE.name, ("gpu.test.", 8000), ttl=60)

    (record,) = await dns._look_up(SERVICE, (f"127.0.0.1:{zone.port}",))

    assert record.ttl_s == 7


async def test_a_denial_is_not_kept_for_as_long_as_the_zone_says(find, zone):
    zone.code = RCODE.NXDOMAIN
    with pytest.raises(NoSuchName):
        await find(MANY)
    zone.code = RCODE.NOERROR

    assert await find(MANY)
