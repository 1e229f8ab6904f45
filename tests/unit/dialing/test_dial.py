"""A backend is found by name or address, in time or not at all, and only under a certificate that is good."""

import asyncio
import errno
import os
import socket
import ssl
from pathlib import Path

import pytest
import structlog
import trustme

from nexus.dialing import dial as dialing
from nexus.dialing import lookups, names
from nexus.dialing.dial import Address, address_of, dial
from nexus.dialing.lookups import Resolution
from nexus.dialing.tls import trusting_context
from nexus.dialing.upstream_settings import DEFAULT_SETTINGS, UpstreamSettings
from nexus.errors import RequestError, UpstreamError
from nexus.proxy.upstream.connection import UpstreamConnection
from nexus.tasks import start
from nexus.testing.waiting import eventually
from tests.support.scripted import ScriptedBackend, Stall


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def server_tls(authority):
    """A context for a server whose certificate is for *names*."""

    def make(*names):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(*names).configure_cert(context)
        return context

    return make


@pytest.fixture
def client_tls(authority):
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.fixture(autouse=True)
def forgotten_names():
    names._names.clear()
    yield
    names._names.clear()


async def dial_and_close(address, timeout_s=2.0):
    connection = await dial(address, UpstreamConnection, timeout_s=timeout_s)
    connection.abandon()
    return connection


def count_open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


async def fault_of(address, timeout_s=2.0):
    with pytest.raises(UpstreamError) as failed:
        await dial_and_close(address, timeout_s)
    return failed.value.fault.value


class Resolver:
    """Knows the addresses of the names that it is given, and counts how often it is asked."""

    def __init__(self, **known):
        self.known = known
        self.asked = []
        self.failure = OSError(None, "not known")
        self.ttl_s = 30.0

    async def __call__(self, host, port):
        self.asked.append(host)
        if (answer := self.known.get(host.partition(".")[0])) is None:
            raise self.failure
        infos = [
            (socket.AF_INET6 if ":" in one else socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (one, port))
            for one in answer.split()
        ]
        return Resolution(tuple(infos), self.ttl_s)


@pytest.fixture
def name_servers(monkeypatch):
    """Play both resolvers: the one of our own, and the system's."""

    def play(ours, systems):
        monkeypatch.setattr(lookups, "ask_name_servers", ours)
        monkeypatch.setattr(lookups, "ask_system", systems)

    return play


# where


@pytest.mark.parametrize(
    ("url", "host", "port", "authority", "path"),
    [
        ("http://gpu", "gpu", 80, "gpu", ""),
        ("http://gpu:8000/base", "gpu", 8000, "gpu:8000", "/base"),
        ("https://api.example/v", "api.example", 443, "api.example", "/v"),
        ("https://api.example:8443", "api.example", 8443, "api.example:8443", ""),
        ("http://[::1]:11434", "::1", 11434, "[::1]:11434", ""),
        ("http://[fe80::1%25eth0]", "fe80::1%eth0", 80, "[fe80::1]", ""),
        ("http://[fe80::1%eth0]", "fe80::1%eth0", 80, "[fe80::1]", ""),
        ("http://[fe80::1%2]", "fe80::1%2", 80, "[fe80::1]", ""),
    ],
)
def test_a_url_says_where_a_backend_is_and_what_it_calls_itself(url, host, port, authority, path):
    address = address_of(url, DEFAULT_SETTINGS)

    assert (address.host, address.port, address.authority, DEFAULT_SETTINGS.path_of(url).base) == (
        host,
        port,
        authority,
        path,
    )
    assert (address.tls is not None) is url.startswith("https")


def test_a_configured_context_is_used_for_tls_only():
    own = ssl.create_default_context()

    assert address_of("https://gpu", UpstreamSettings(tls=own)).tls is own
    assert address_of("http://gpu", UpstreamSettings(tls=own)).tls is None


# reaching it


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_backend_is_reached_by_address_and_by_name(host):
    async with ScriptedBackend([Stall()]) as backend:
        connection = await dial(Address(host, backend.port), UpstreamConnection, timeout_s=2.0)
        sock = connection.transport.get_extra_info("socket")
        options = [
            sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY),
            sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
        ]
        connection.abandon()
        await backend.ended()

    assert all(options)


@pytest.mark.parametrize("host", ["::1", "::1%0", "localhost"])
async def test_a_backend_is_reached_by_ipv6(host):
    try:
        server = await asyncio.start_server(lambda _, writer: writer.close(), "::1", 0)
    except OSError:
        pytest.skip("this machine has no IPv6")

    async with server:
        connection = await dial_and_close(Address(host, server.sockets[0].getsockname()[1]))

    assert connection.is_closed


async def test_a_name_is_looked_up_once_in_a_while(name_servers):
    resolver = Resolver(gpu="127.0.0.1")
    name_servers(resolver, Resolver())
    async with ScriptedBackend([Stall()]) as backend:
        for _ in range(2):
            await dial_and_close(Address("gpu.test", backend.port))

    assert resolver.asked == ["gpu.test"]


async def test_a_name_whose_backend_is_gone_is_looked_up_again(name_servers):
    resolver = Resolver(gpu="127.0.0.1")
    name_servers(resolver, Resolver())
    async with ScriptedBackend([Stall()]) as backend:
        address = Address("gpu.test", backend.port)
        await dial_and_close(address)

    assert await fault_of(address) == "refused"
    resolver.known.clear()
    assert await fault_of(address) == "refused"
    assert resolver.asked == ["gpu.test", "gpu.test"]


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

    assert (ours.asked, systems.asked) == (["gpu.test"], ["gpu.test", "gpu.local"])


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
    asked = len(resolver.asked)
    await asyncio.sleep(0.05)

    assert len(resolver.asked) == asked


METADATA = ["169.254.169.254", "fd00:ec2::254", "::ffff:169.254.1.2", "100.100.100.200"]


@pytest.mark.parametrize("address", METADATA)
async def test_a_name_with_a_metadata_address_is_not_connected_to(name_servers, monkeypatch, address):
    name_servers(Resolver(gpu=address), Resolver())
    monkeypatch.setattr(dialing.aiohappyeyeballs, "start_connection", None)

    with pytest.raises(UpstreamError) as failed:
        await dial_and_close(Address("gpu.test", 80))

    assert failed.value.fault.value == "refused"
    assert "link-local address, and only the configuration file may name one" in str(failed.value)
    assert address in str(failed.value.__cause__)


async def test_the_other_address_of_a_name_with_a_metadata_address_is_used(name_servers):
    name_servers(Resolver(gpu="169.254.169.254 127.0.0.1"), Resolver())
    async with ScriptedBackend([Stall(), Stall()]) as backend:
        for _ in range(2):
            connection = await dial(Address("gpu.test", backend.port), UpstreamConnection, timeout_s=2.0)
            assert connection.transport.get_extra_info("peername")[0] == "127.0.0.1"
            connection.abandon()


def test_only_configured_backends_may_have_a_metadata_address():
    assert address_of("http://gpu", UpstreamSettings(is_from_file=True)).may_be_metadata
    assert not address_of("http://gpu", DEFAULT_SETTINGS).may_be_metadata


# not reaching it


async def test_a_port_without_a_listener_refuses():
    async with ScriptedBackend([]) as backend:
        port = backend.port

    assert await fault_of(Address("127.0.0.1", port)) == "refused"


async def test_an_unknown_name_refuses(name_servers):
    name_servers(Resolver(), Resolver())

    assert await fault_of(Address("nowhere.test", 80)) == "refused"


@pytest.mark.parametrize("host", ["a..b", "x" * 64 + ".test", ".", "fe80::1%nowhere"])
async def test_an_invalid_host_refuses(host):
    assert await fault_of(Address(host, 80)) == "refused"


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
async def test_a_backend_is_not_blamed_for_missing_file_descriptors(monkeypatch, number):
    async def fail(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(dialing.aiohappyeyeballs, "start_connection", fail)

    with pytest.raises(RequestError) as refused:
        await dial_and_close(Address("127.0.0.1", 80))

    assert (refused.value.code, refused.value.retry_after_s) == ("overloaded", 1)


async def test_a_lookup_that_hangs_is_given_up(name_servers):
    class Hanging(Resolver):
        async def __call__(self, host, port):
            await asyncio.sleep(60)

    name_servers(Hanging(), Resolver())

    assert await fault_of(Address("slow.test", 80), timeout_s=0.05) == "connect_timeout"


# tls


async def test_a_good_certificate_is_accepted(server_tls, client_tls):
    async with ScriptedBackend([Stall()], tls=server_tls("localhost", "127.0.0.1")) as backend:
        for host in ("localhost", "127.0.0.1"):
            connection = await dial_and_close(Address(host, backend.port, client_tls))
            assert connection.transport.get_extra_info("ssl_object") is not None


@pytest.mark.parametrize("name", ["other.example", "127.0.0.2"])
async def test_a_certificate_for_another_name_is_not(server_tls, client_tls, name):
    async with ScriptedBackend([Stall()], tls=server_tls(name)) as backend:
        assert await fault_of(Address("127.0.0.1", backend.port, client_tls)) == "tls"


async def test_an_untrusted_certificate_is_not(server_tls):
    async with ScriptedBackend([Stall()], tls=server_tls("127.0.0.1")) as backend:
        address = address_of(backend.url, DEFAULT_SETTINGS)

        assert await fault_of(address) == "tls"


async def test_the_operator_may_trust_it_all_the_same(server_tls):
    async with ScriptedBackend([Stall()], tls=server_tls("other.example")) as backend:
        address = address_of(backend.url, UpstreamSettings(tls=trusting_context()))

        assert (await dial_and_close(address)).is_closed


@pytest.mark.parametrize("says", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b""])
async def test_a_server_without_tls_is_not_spoken_to_in_the_clear(client_tls, says):
    received = b""

    async def answer(reader, writer):
        nonlocal received
        received = await reader.read(1000)
        writer.write(says)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        fault = await fault_of(Address("127.0.0.1", server.sockets[0].getsockname()[1], client_tls))

    assert fault == "tls"
    assert b"HTTP" not in received


async def test_a_handshake_that_stalls_is_given_up_and_leaves_nothing_open(client_tls):
    async with ScriptedBackend([Stall()]) as backend:
        open_before = count_open_files()

        fault = await fault_of(Address("127.0.0.1", backend.port, client_tls), timeout_s=0.1)
        await asyncio.wait_for(backend.ended(), 1)
        await asyncio.sleep(0)

        assert fault == "connect_timeout"
        assert count_open_files() <= open_before


async def test_an_attempt_that_is_cancelled_leaves_nothing_open(client_tls):
    async with ScriptedBackend([Stall()]) as backend:
        dialing_now = start(dial_and_close(Address("127.0.0.1", backend.port, client_tls)), name="dial")
        await asyncio.sleep(0.05)

        dialing_now.cancel()
        with pytest.raises(asyncio.CancelledError):
            await dialing_now

        await asyncio.wait_for(backend.ended(), 1)
