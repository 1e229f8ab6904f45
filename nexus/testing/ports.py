"""Finds free ports."""

import os
import socket
from contextlib import suppress
from itertools import count
from typing import Final

#: Below the ephemeral range: an outgoing connection cannot take a port before its server does.
PORTS: Final = range(20_000, 32_000)

#: Starts at a different port in each process, so that parallel tests rarely choose the same.
_places: Final = count(os.getpid() * 1_009)


def free_port() -> int:
    """Return an unused port of the loopback address. Raise OSError if there is none."""
    for place in (next(_places) for _ in PORTS):
        with socket.socket() as sock, suppress(OSError):
            sock.bind(("127.0.0.1", PORTS[place % len(PORTS)]))
            return int(sock.getsockname()[1])
    raise OSError(f"no port from {PORTS.start} to {PORTS.stop - 1} is free")
