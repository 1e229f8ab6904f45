"""A worker accepts connections at the sockets of others while they do not."""

import asyncio
import os
import socket

import pytest

from nexus.app.workers.adoption import Adoption


class Greeter(asyncio.Protocol):
    def connection_made(self, transport):
        transport.write(b"hello")
        transport.close()


class Scene:
    """Sockets of two other workers, numbers 2 and 3."""

    def __init__(self):
        self.sockets = {number: socket.create_server(("127.0.0.1", 0)) for number in (2, 3)}
        for sock in self.sockets.values():
            sock.setblocking(False)
        self.is_draining = False
        self.adoption = Adoption({number: (sock.fileno(),) for number, sock in self.sockets.items()}, self._serve)

    async def _serve(self, sock):
        if self.is_draining:
            sock.close()
            return None
        return await asyncio.get_running_loop().create_server(Greeter, sock=sock)

    async def attend(self, *workers):
        self.adoption.attend(workers)
        for _ in range(10):
            await asyncio.sleep(0)

    async def answers(self, worker):
        """Whether a connection to the socket of that worker is accepted soon."""
        reader, writer = await asyncio.open_connection(*self.sockets[worker].getsockname())
        try:
            async with asyncio.timeout(0.1):
                return await reader.read() == b"hello"
        except TimeoutError:
            return False
        finally:
            writer.close()


@pytest.fixture
async def scene():
    scene = Scene()
    yield scene
    await scene.attend()
    for sock in scene.sockets.values():
        sock.close()


async def test_connections_are_accepted_until_the_worker_does_that_itself(scene):
    found = [await scene.answers(2)]
    await scene.attend(1, 2)
    found += [await scene.answers(2), await scene.answers(3)]
    await scene.attend()
    found.append(await scene.answers(2))

    assert found == [False, True, False, False]


async def test_connections_that_wait_are_left_to_the_worker_when_it_is_back(scene):
    await scene.attend(2)
    await scene.attend()
    with socket.create_connection(scene.sockets[2].getsockname()):
        await asyncio.sleep(0.01)
        accepted, _ = scene.sockets[2].accept()
        accepted.close()


async def test_the_last_order_counts(scene):
    scene.adoption.attend((2,))
    scene.adoption.attend((2, 3))
    scene.adoption.attend((3,))
    await scene.attend(3)

    assert (await scene.answers(2), await scene.answers(3)) == (False, True)


async def test_after_the_close_no_connection_is_completed_for_a_socket_that_its_owners_have_closed(scene):
    await scene.attend(2)
    inherited = {number: (os.dup(sock.fileno()),) for number, sock in scene.sockets.items()}
    drained = Adoption(inherited, scene._serve)
    drained.attend((3,))
    drained.close()
    for _ in range(10):
        await asyncio.sleep(0)
    drained.attend((3,))
    address = scene.sockets[3].getsockname()
    scene.sockets[3].close()

    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)


async def test_a_worker_that_drains_adopts_nothing(scene):
    scene.is_draining = True
    await scene.attend(2)

    assert not await scene.answers(2)
