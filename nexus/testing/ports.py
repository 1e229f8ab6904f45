"""Ports for servers that a test starts, and for addresses at which nobody answers."""

import os
import socket
from contextlib import suppress
from itertools import count
from typing import Final

#: Below those that systems give to outgoing connections, one of which could take a port before its server does.
PORTS: Final = range(20_000, 32_000)

#: Each process begins elsewhere, so that tests that run beside each other do not choose the same port at once.
_places: Final = count(os.getpid() * 1_009)


def free_port() -> int:
    """Return a port of the loopback address that nobody uses now. Raise OSError when all are used."""
    for place in (next(_places) for _ in PORTS):
        with socket.socket() as sock, suppress(OSError):
            sock.bind(("127.0.0.1", PORTS[place % len(PORTS)]))
            return int(sock.getsockname()[1])
    raise OSError(f"no port from {PORTS.start} to {PORTS.stop - 1} is free")
