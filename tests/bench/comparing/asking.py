"""Single requests, by hand: one that is answered, and streams that are held."""

import json
import socket
from contextlib import closing
from typing import Any, Final

TIMEOUT_S: Final = 10.0
READ_BYTES: Final = 65536
SILENCE_S: Final = 40
"""Between the two events of a held stream: longer than it is held, and shorter than Nexus lets a stream be idle."""


def ask(port: int) -> bool:
    """Whether a request to *port* is answered with 200."""
    try:
        with closing(_send(port)) as sock:
            return sock.recv(READ_BYTES).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


def open_stream(port: int) -> socket.socket:
    """Return a connection on which a stream has begun and now keeps silent.

    :raises OSError: it did not begin.
    """
    sock = _send(port, stream=True, max_tokens=2, seed=SILENCE_S * 1_000_000)
    received = b""
    while b"data: " not in received:
        part = sock.recv(READ_BYTES)
        received += part
        if not part or not received.startswith(b"HTTP/1.1 200"[: len(received)]):
            sock.close()
            raise ConnectionError(f"no stream, but {received[:80]!r}")
    return sock


def is_held(sock: socket.socket) -> bool:
    """Whether nothing has happened to a stream."""
    sock.setblocking(False)
    try:
        return sock.recv(1) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


def _send(port: int, **wishes: Any) -> socket.socket:
    body = json.dumps({"model": "m1", "messages": [{"role": "user", "content": "x"}], **wishes}).encode()
    sock = socket.create_connection(("127.0.0.1", port), TIMEOUT_S)
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    sock.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    return sock
