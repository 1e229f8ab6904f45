"""A backend is connected to by name or address, in time or not at all, and only with a valid certificate."""

import asyncio
import errno
import os
import socket
import ssl
from pathlib import Path

import pytest
import trustme

from nexus.dialing import dial as dialing
from nexus.dialing.dial import Address, address_of, dial
from nexus.dialing.tls import trusting_context
from nexus.dialing.upstream_settings import DEFAULT_SETTINGS, UpstreamSettings
from nexus.errors import RequestError, UpstreamError
from nexus.proxy.upstream.connection import UpstreamConnection
from nexus.tasks import start
from tests.support.dialing import Resolver, dial_and_close, fault_of
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


def count_open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


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
