"""Stops listening without resetting the connections that clients have begun to open.

When a listening socket is closed, the kernel resets the connections in its accept queue and those in the middle of the
handshake, although their clients may have sent a request already.
"""

import asyncio
import ctypes
import os
import socket
import struct
import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

SETTLE_S: Final = 0.05
"""How long handshakes may take to finish: the rest of one takes a round trip."""

SO_ATTACH_FILTER: Final = 26
"""Linux's value; Python has no name for it."""
_FLAGS_OF_TCP: Final = 13
_SYN: Final = 0x02
_SYN_OR_ACK: Final = 0x12
_NO_NEW_HANDSHAKE: Final = b"".join(
    struct.pack("HBBI", *instruction)
    for instruction in (
        (0x30, 0, 0, _FLAGS_OF_TCP),  # load the byte of flags
        (0x54, 0, 0, _SYN_OR_ACK),  # leave these two
        (0x15, 0, 1, _SYN),  # if it is a SYN alone
        (0x06, 0, 0, 0),  # drop the packet
        (0x06, 0, 0, 0xFFFFFFFF),  # else take it
    )
)
"""A packet filter (classic BPF). A client whose SYN is dropped sends it again after a second, to the next process."""


async def stop_listening(servers: Iterable[asyncio.Server], *, settle_s: float = SETTLE_S) -> None:
    """Close the sockets of *servers* after *settle_s*, in which handshakes that have begun may finish."""
    servers = tuple(servers)
    if settle_s and any(server.sockets for server in servers):
        for server in servers:
            for listening in server.sockets:
                accept_no_new(listening.fileno())
        await asyncio.sleep(settle_s)
    for server in servers:
        server.close()


def accept_no_new(descriptor: int) -> None:
    """Make the kernel drop new handshakes at a listening socket; other systems than Linux ignore this."""
    if sys.platform != "linux":
        return
    program = ctypes.create_string_buffer(_NO_NEW_HANDSHAKE, len(_NO_NEW_HANDSHAKE))
    filter_ = struct.pack("HP", len(_NO_NEW_HANDSHAKE) // 8, ctypes.addressof(program))
    with suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as listening:
        listening.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, filter_)
