"""Scans of hosts and subnets."""

import socket
from contextlib import aclosing

import pytest
from structlog.testing import capture_logs

from nexus.config.discovery_schema import DiscoveryConfig, HostsSourceConfig
from nexus.fleet.discovery.discoverer import Discovered
from nexus.fleet.discovery.ports import hosts as scanning
from nexus.fleet.discovery.ports.hosts import HostsDiscoverer, SubnetsDiscoverer, named_ports
from nexus.fleet.discovery.ports.local import USUAL_PORTS
from nexus.fleet.discovery.ports.open_port import OpenPort
from nexus.fleet.fetching import Fetcher, FetchError
from nexus.fleet.probing.detection import Detection


@pytest.fixture
async def fetcher():
    async with Fetcher(timeout_s=1.0) as fetcher:
        yield fetcher


@pytest.fixture
def look(fetcher):
    """Look once, or as often as the test wants, with a discoverer of hosts or of subnets."""

    async def look(*entries, by=HostsDiscoverer, times=1, **options):
        discoverer = by([HostsSourceConfig(hosts=entries)], fetcher, interval_s=0.001, **options)
        looks = []
        async with aclosing(discoverer.watch()) as watching:
            async for seen in watching:
                looks.append(seen)
                if len(looks) == times:
                    break
        return looks[-1]

    return look


@pytest.fixture
def leads_to(monkeypatch):
    """Let names lead where the test wants."""

    def leads_to(**addresses):
        async def addresses_of(name):
            if name not in addresses:
                raise OSError(socket.EAI_NONAME, "no such name")
            return addresses[name]

        monkeypatch.setattr(scanning, "addresses_of", addresses_of)

    return leads_to


def test_the_usual_ports_are_those_of_this_machine():
    assert HostsSourceConfig(hosts=("gpu",)).ports == tuple(USUAL_PORTS)


async def test_a_server_is_called_by_where_it_is(serve, look):
    server = await serve("vllm", "llama3")

    seen = await look(f"127.0.0.1:{server.port}")

    assert seen == (Discovered(f"127.0.0.1:{server.port}", f"http://127.0.0.1:{server.port}", "vllm"),)


async def test_a_name_is_looked_up_and_every_address_of_it_is_tried(serve, look, leads_to):
    server = await serve("vllm", "llama3")
    leads_to(localhost=("127.0.0.9", "127.0.0.1"))

    (seen,) = await look(f"localhost:{server.port}", f"gone:{server.port}")

    assert (seen.name, seen.host) == (f"localhost:{server.port}", "localhost")


async def test_a_name_server_that_fails_takes_no_server_away_and_one_that_denies_the_name_does(
    serve, fetcher, monkeypatch
):
    server = await serve("vllm", "llama3")
    answers = iter([("127.0.0.1",), OSError(socket.EAI_AGAIN, "try again"), OSError(socket.EAI_NONAME, "gone")])

    async def addresses_of(_):
        if isinstance(now := next(answers), OSError):
            raise now
        return now

    monkeypatch.setattr(scanning, "addresses_of", addresses_of)
    source = HostsSourceConfig(hosts=(f"localhost:{server.port}",))
    looks = []
    async with aclosing(HostsDiscoverer([source], fetcher, interval_s=0.001).watch()) as watching:
        async for seen in watching:
            looks.append(len(seen))
            if len(looks) == 3:
                break

    assert looks == [1, 1, 0]


async def test_a_name_with_a_metadata_address_is_not_scanned(serve, look, leads_to):
    server = await serve("vllm", "llama3")
    leads_to(localhost=("127.0.0.1", "169.254.169.254"))

    with capture_logs() as logs:
        assert await look(f"localhost:{server.port}", times=3) == ()

    assert [line["host"] for line in logs if line["event"] == "host_refused"] == ["localhost"]
    assert server.asked == []


def test_a_metadata_address_is_left_out_of_subnets_and_can_be_named():
    source = HostsSourceConfig(hosts=("100.100.100.192/28:80", "169.254.169.254:80", "[fd00:ec2::200/121]:80"))

    scanned = {host for host, _ in named_ports(source, are_subnets=True)}

    assert {"100.100.100.200", "fd00:ec2::254"}.isdisjoint(scanned)
    assert {"100.100.100.201", "fd00:ec2::253"} <= scanned
    assert list(named_ports(source, are_subnets=False)) == [("169.254.169.254", 80)]


async def test_the_proxy_itself_and_another_one_are_left_alone(serve, look):
    other = await serve("ollama", "llama3", headers={"X-Nexus-Version": "0.5.0"})
    own = await serve("ollama", "llama3")

    assert await look(f"127.0.0.1:{other.port}", f"127.0.0.1:{own.port}", own_port=own.port) == ()
    assert own.asked == []


async def test_an_unknown_listener_is_logged_once(serve, look):
    page = await serve(answers={"/v1/models": b"<!doctype html>"})

    with capture_logs() as logs:
        assert await look(f"127.0.0.1:{page.port}", times=3) == ()

    assert [line["port"] for line in logs if line["event"] == "listener_not_recognised"] == [page.port]


async def test_a_subnet_is_scanned_without_the_hosts_that_are_named_singly(serve, look):
    server = await serve("vllm", "llama3")
    subnet = f"127.0.0.0/29:{server.port}"

    seen = await look(subnet, by=SubnetsDiscoverer)
    named = await look(subnet, f"127.0.0.1:{server.port}", by=SubnetsDiscoverer)

    assert [found.url for found in seen] == [server.url]
    assert named == ()


async def test_one_server_under_two_names_is_reported_under_the_first(serve, look, leads_to):
    server = await serve("vllm", "llama3")
    leads_to(localhost=("::1", "127.0.0.1"))

    seen = await look(f"localhost:{server.port}", f"127.0.0.1:{server.port}")

    assert [found.name for found in seen] == [f"localhost:{server.port}"]


async def test_a_server_of_a_subnet_that_is_also_named_is_reported_under_its_name(serve, look):
    server = await serve("vllm", "llama3")

    seen = await look(
        f"127.0.0.0/29:{server.port}", by=SubnetsDiscoverer, elsewhere=lambda: {("127.0.0.1", server.port)}
    )

    assert seen == ()


def has_ipv6():
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            return False
        return True


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
async def test_a_server_at_an_ipv6_address_is_found(serve, look):
    server = await serve("vllm", "llama3", host="::1")

    (found,) = await look(f"[::1]:{server.port}")

    assert (found.name, found.url) == (f"[::1]:{server.port}", f"http://[::1]:{server.port}")


async def test_a_server_that_is_too_busy_for_a_while_keeps_its_kind(fetcher, monkeypatch):
    port = OpenPort(fetcher, "127.0.0.1", 9)
    answering = iter([True, False, True])
    told = iter([Detection("vllm", 200), FetchError("request timeout after 1s")])

    async def answers(*_):
        return next(answering)

    async def detect(*_):
        if isinstance(now := next(told), FetchError):
            raise now
        return now

    monkeypatch.setattr("nexus.fleet.discovery.ports.open_port.accepts_connections", answers)
    monkeypatch.setattr("nexus.fleet.discovery.ports.open_port.detect", detect)
    kinds = []
    for _ in range(3):
        await port.look()
        kinds.append(port.kind)

    assert kinds == ["vllm", None, "vllm"]


async def test_between_two_scans_only_known_servers_are_tried(serve, look, monkeypatch):
    server = await serve("vllm", "llama3")
    tried = []

    async def answers(host, port):
        tried.append(host)
        return (host, port) == ("127.0.0.1", server.port)

    monkeypatch.setattr("nexus.fleet.discovery.ports.open_port.accepts_connections", answers)

    # What the scan finds, its end, and two more looks.
    await look(f"127.0.0.0/29:{server.port}", by=SubnetsDiscoverer, times=4)

    assert sorted(tried[:6]) == [f"127.0.0.{last}" for last in range(1, 7)]
    assert tried[6:] == ["127.0.0.1", "127.0.0.1"]


async def test_a_limited_number_of_ports_is_tried_at_once(look, monkeypatch):
    trying, most = 0, 0

    async def count(_):
        nonlocal trying, most
        trying += 1
        most = max(most, trying)
        await scanning.asyncio.sleep(0)
        trying -= 1

    monkeypatch.setattr(scanning.OpenPort, "look", count)

    await look("10.0.0.0/24:1-4", by=SubnetsDiscoverer)

    assert most == scanning.PORTS_AT_ONCE


async def test_a_reload_keeps_what_was_found_and_follows_the_new_hosts(serve, plan, start, eventually):
    one, two = await serve("vllm", "llama3"), await serve("vllm", "llama3")

    def with_hosts(*servers):
        hosts = tuple(f"127.0.0.1:{server.port}" for server in servers)
        sources = (HostsSourceConfig(hosts=hosts),) if hosts else ()
        return plan(
            discovery=DiscoveryConfig(enabled=False, hosts=sources, interval_seconds=0.05, grace_period_seconds=0)
        )

    fleet = await start(with_hosts(one))
    await eventually(lambda: [backend.url for backend in fleet.snapshot.backends] == [one.url])
    fleet.reconfigure(with_hosts(one, two))
    await eventually(lambda: {backend.url for backend in fleet.snapshot.backends} == {one.url, two.url})
    fleet.reconfigure(with_hosts())

    assert fleet.snapshot.backends == ()
