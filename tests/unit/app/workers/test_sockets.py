"""Each worker gets a listening socket of its own, and no other process gets one."""

import errno
import socket

import pytest
from structlog.testing import capture_logs

from nexus.app.process import binding
from nexus.app.workers import sockets as module
from nexus.app.workers.sockets import sockets_for
from nexus.testing.ports import free_port


@pytest.fixture
async def listening():
    listening = await binding.listen("127.0.0.1", free_port(), may_move=False)
    yield listening
    listening.close()


@pytest.fixture
def groups(listening):
    groups = sockets_for(listening, 3)
    yield groups
    for group in groups:
        for sock in group:
            sock.close()


@pytest.mark.skipif(not module.SPREADS, reason="needs Linux")
def test_every_worker_gets_connections(listening, groups):
    clients = [socket.create_connection(("127.0.0.1", listening.port)) for _ in range(60)]

    accepted = [accept_all(group[0]) for group in groups]

    assert len({group[0].fileno() for group in groups}) == 3
    assert sum(accepted) == 60
    assert all(accepted)
    for client in clients:
        client.close()


async def test_beside_a_predecessor_at_the_same_port_no_client_waits_for_a_worker_that_is_not_ready():
    before = await binding.listen("127.0.0.1", free_port(), may_move=False, may_share=True)
    bound = await binding.listen("127.0.0.1", before.port, may_move=False, may_share=True, only_bind=True)
    groups = sockets_for(bound, 2)

    clients = [socket.create_connection(("127.0.0.1", before.port)) for _ in range(20)]

    assert accept_all(before.sockets[0]) == 20
    for sock in (*before.sockets, *(each for group in groups for each in group), *clients):
        sock.close()


async def test_another_process_that_would_share_the_port_is_refused(listening, groups):
    del groups

    with pytest.raises(binding.PortTaken):
        await binding.listen("127.0.0.1", listening.port, may_move=False)


def test_connections_wait_while_a_socket_has_no_worker(listening, groups):
    client = socket.create_connection(("127.0.0.1", listening.port), timeout=2)
    client.sendall(b"GET / HTTP/1.1\r\n\r\n")

    assert sum(accept_all(group[0]) for group in groups) == 1
    client.close()


def test_without_a_socket_for_each_all_share_one(listening, monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOPROTOOPT, "not supported")

    monkeypatch.setattr(module, "_beside", fail)

    with capture_logs() as log:
        groups = sockets_for(listening, 2)

    assert groups == (listening.sockets, listening.sockets)
    assert [line["event"] for line in log] == ["sockets_shared"]


def test_where_the_kernel_does_not_spread_connections_all_share_one(listening, monkeypatch):
    monkeypatch.setattr(module, "SPREADS", False)

    assert sockets_for(listening, 2) == (listening.sockets, listening.sockets)


def accept_all(sock):
    count = 0
    while True:
        try:
            sock.accept()[0].close()
        except BlockingIOError:
            return count
        count += 1
