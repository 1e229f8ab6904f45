"""Where Nexus listens, and what it says when it cannot."""

import socket

import pytest
from structlog.testing import capture_logs

from nexus.app.blueprint import draw, load_plugins
from nexus.app.running import OTHER_PORTS_TRIED, Nexus
from nexus.config.loading import load
from nexus.errors import StartError


@pytest.fixture
def nexus(tmp_path):
    """Build a proxy that looks for no servers."""

    def build(host, port):
        config = tmp_path / "nexus.toml"
        config.write_text(f'[discovery]\nenabled = false\n[server]\nhost = "{host}"\nport = {port}\n')
        loaded = load(config, environ={}, overrides={}, insecure=True)
        return Nexus(draw(loaded, load_plugins(loaded, ())))

    return build


@pytest.fixture
def busy_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        yield sock.getsockname()[1]


async def test_a_port_in_use_that_was_asked_for_is_an_error(nexus, busy_port):
    with pytest.raises(StartError) as refused:
        await nexus("127.0.0.1", busy_port).start()

    reason = "Address already in use; choose another with --port"
    assert str(refused.value) == f"cannot listen on 127.0.0.1 port {busy_port}: {reason}"


async def test_one_that_nobody_asked_for_is_replaced_by_another_near_it(nexus, busy_port):
    proxy = nexus("127.0.0.1", busy_port)

    with capture_logs() as lines:
        await proxy.start(may_move_port=True)

    try:
        assert busy_port < proxy.port <= busy_port + OTHER_PORTS_TRIED
        (moved,) = [line for line in lines if line["event"] == "port_moved"]
        assert (moved["wanted"], moved["port"]) == (busy_port, proxy.port)
    finally:
        await proxy.stop()


@pytest.mark.parametrize("may_move", [True, False])
async def test_an_address_of_another_machine_is_not_tried_on_other_ports(nexus, may_move):
    with pytest.raises(StartError) as refused:
        await nexus("192.0.2.1", 8000).start(may_move_port=may_move)

    reason = "Cannot assign requested address; choose another with --host"
    assert str(refused.value) == f"cannot listen on 192.0.2.1 port 8000: {reason}"
