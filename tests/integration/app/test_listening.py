"""Where Nexus listens, and the errors when it cannot."""

import asyncio
import errno
import os
import socket

import pytest
from structlog.testing import capture_logs

from nexus.app.composition.blueprint import build_blueprint, load_plugins
from nexus.app.process import binding
from nexus.app.process.binding import MAX_OTHER_PORTS, listen
from nexus.app.running.nexus import Nexus
from nexus.config.loading import load
from nexus.errors import ConfigError, StartError
from nexus.testing.ports import free_port


@pytest.fixture
def nexus(tmp_path):
    """Build a proxy that looks for no servers."""

    def build(host, port):
        config = tmp_path / "nexus.toml"
        config.write_text(f'[discovery]\nenabled = false\n[server]\nhost = "{host}"\nport = {port}\n')
        loaded = load(config, environ={}, overrides={}, insecure=True)
        return Nexus(build_blueprint(loaded, load_plugins(loaded, ())))

    return build


@pytest.fixture
def busy_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        yield sock.getsockname()[1]


@pytest.fixture
def resolved(monkeypatch):
    """Let every name have the addresses given."""

    def let(*addresses):
        async def getaddrinfo(*_, **__):
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in addresses]

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)

    return let


async def test_two_proxies_with_reuse_port_share_a_port():
    port = free_port()
    first = await listen("127.0.0.1", port, may_move=False, may_share=True)

    second = await listen("127.0.0.1", port, may_move=False, may_share=True)
    with pytest.raises(StartError):
        await listen("127.0.0.1", port, may_move=False)

    assert (first.port, second.port) == (port, port)
    first.close()
    second.close()


async def test_a_configured_port_in_use_is_an_error(nexus, busy_port):
    with pytest.raises(StartError) as refused:
        await nexus("127.0.0.1", busy_port).start()

    # The test itself listens there, and the hint says what to do.
    used = f"it is in use by {binding.owner_of(busy_port)}"
    hint = "stop it, or choose another port with --port or server.port"
    assert str(refused.value) == f"cannot listen on 127.0.0.1 port {busy_port}: {used}; {hint}"
    assert f"(process {os.getpid()})" in str(refused.value)


async def test_the_default_port_in_use_is_replaced_by_one_of_the_next(nexus, busy_port):
    proxy = nexus("127.0.0.1", busy_port)

    with capture_logs() as lines:
        await proxy.start(may_move_port=True)

    try:
        assert busy_port < proxy.port <= busy_port + MAX_OTHER_PORTS
        (moved,) = [line for line in lines if line["event"] == "port_moved"]
        assert (moved["log_level"], moved["wanted"], moved["port"]) == ("warning", busy_port, proxy.port)
        assert moved["url"] == f"http://127.0.0.1:{proxy.port}"
        assert f"(process {os.getpid()})" in moved["in_use_by"]
    finally:
        await proxy.stop()


@pytest.mark.parametrize("may_move", [True, False])
async def test_an_address_of_another_machine_is_not_tried_on_other_ports(nexus, may_move):
    with pytest.raises(StartError) as refused:
        await nexus("192.0.2.1", 8000).start(may_move_port=may_move)

    reason = "Cannot assign requested address; choose another with --host or server.host"
    assert str(refused.value) == f"cannot listen on 192.0.2.1 port 8000: {reason}"


async def test_the_second_of_two_simultaneous_starts_fails(nexus, busy_port):
    port = free_port()
    first, second = nexus("127.0.0.1", port), nexus("127.0.0.1", port)

    ended = await asyncio.gather(first.start(), second.start(), return_exceptions=True)

    try:
        assert sorted(map(type, ended), key=str) == [type(None), binding.PortTaken]
    finally:
        await (first if ended[0] is None else second).stop()


async def test_a_name_with_an_address_that_is_not_there_is_served_at_the_others(resolved):
    resolved("192.0.2.1", "127.0.0.1")

    listening_at = await listen("two.example", free_port(), may_move=False)

    assert [sock.getsockname()[0] for sock in listening_at.sockets] == ["127.0.0.1"]
    listening_at.close()


async def test_a_port_must_be_free_at_every_address_of_a_name(resolved, busy_port):
    resolved("127.0.0.2", "127.0.0.1")

    listening_at = await listen("two.example", busy_port, may_move=True)

    assert busy_port < listening_at.port
    assert {sock.getsockname() for sock in listening_at.sockets} == {
        ("127.0.0.1", listening_at.port),
        ("127.0.0.2", listening_at.port),
    }
    listening_at.close()


async def test_an_unknown_host_name_is_an_error():
    with pytest.raises(StartError, match=r"^cannot listen on no\.invalid port 8000: .+; choose another with --host"):
        await listen("no.invalid", 8000, may_move=True)


async def test_a_port_that_only_root_may_open_is_a_fault_of_the_configuration(monkeypatch):
    def bind(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(binding, "_socket", bind)

    with pytest.raises(ConfigError) as refused:
        await listen("127.0.0.1", 80, may_move=True)

    hint = "low ports need root or CAP_NET_BIND_SERVICE; choose another with --port or server.port"
    assert str(refused.value) == f"cannot listen on 127.0.0.1 port 80: Permission denied; {hint}"


async def test_a_trial_takes_no_connection():
    trial = await listen("127.0.0.1", free_port(), may_move=False, only_bind=True)

    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", trial.port)

    trial.close()
