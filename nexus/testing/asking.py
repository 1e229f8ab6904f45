"""A client without any opinion: it sends what it is told, and returns what came back byte for byte."""

import http.client
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

ANSWER_S: Final = 20.0

T = TypeVar("T")


class Reply(NamedTuple):
    """A whole answer; its body is dechunked, and otherwise untouched."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self) -> Any:
        """Decode the body."""
        return msgspec.json.decode(self.body)


def ask(
    url: str,
    path: str,
    body: bytes | Mapping[str, Any] | None = None,
    *,
    method: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """Send one request over a connection of its own.

    :param body: bytes go out as they are, anything else as JSON; None: there is none.
    :param method: GET without a body and POST with one, unless this says otherwise.
    """
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=ANSWER_S)
    encoded = body if body is None or isinstance(body, bytes) else msgspec.json.encode(body)
    sent = {} if body is None else {"Content-Type": "application/json"}
    try:
        connection.request(method or ("GET" if body is None else "POST"), path, encoded, {**sent, **(headers or {})})
        answer = connection.getresponse()
        return Reply(answer.status, answer.headers, answer.read())
    finally:
        connection.close()


def chat(model: str = "llama3", text: str = "hello there", **more: Any) -> dict[str, Any]:
    """Return the body of a chat, in the shape that all protocols understand."""
    return {"model": model, "messages": [{"role": "user", "content": text}], **more}


def until(claim: Callable[[], T], within_s: float = 5.0) -> T:
    """Wait until *claim* returns something true, and return that. Raise AssertionError when that takes too long."""
    deadline = time.monotonic() + within_s
    while not (found := claim()):
        if time.monotonic() > deadline:
            raise AssertionError("what was waited for did not come true")
        time.sleep(0.01)
    return found
