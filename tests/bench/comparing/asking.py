"""Single requests, by hand: one that is answered, streams that are held, and answers that are not read."""

import json
import socket
from contextlib import closing
from random import random
from typing import Any, Final

TIMEOUT_S: Final = 10.0
READ_BYTES: Final = 65536
SILENCE_S: Final = 40
"""Between the two events of a held stream: longer than it is held, and shorter than Nexus lets a stream be idle."""


def ask(port: int, headers: str = "") -> bool:
    """Whether a request to *port* is answered with 200."""
    try:
        with closing(_send(port, _chat(), headers)) as sock:
            return sock.recv(READ_BYTES).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


def open_stream(port: int, headers: str = "") -> socket.socket:
    """Return a connection on which a stream has begun and now keeps silent.

    :raises OSError: it did not begin.
    """
    sock = _send(port, _chat(stream=True, max_tokens=2, seed=SILENCE_S * 1_000_000), headers)
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


def stall(port: int, headers: str, inputs: int) -> socket.socket:
    """Return a connection on which embeddings of *inputs* texts, 16 KiB each, were requested and are not read."""
    texts = [f"text {number} of {random():.9f}" for number in range(inputs)]
    body = {"input": texts, "model": "m1", "encoding_format": "base64"}
    return _send(port, body, headers, path="/v1/embeddings", receive_bytes=4096)


def _chat(**wishes: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": f"{random():.9f}"}], "model": "m1", **wishes}


def _send(
    port: int, document: Any, headers: str, path: str = "/v1/chat/completions", receive_bytes: int | None = None
) -> socket.socket:
    body = json.dumps(document).encode()
    sock = socket.socket()
    sock.settimeout(TIMEOUT_S)
    if receive_bytes is not None:
        # Before it connects, or else the kernel takes in megabytes of an answer that is not read.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    try:
        sock.connect(("127.0.0.1", port))
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n{headers}"
        sock.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    except OSError:
        sock.close()
        raise
    return sock
