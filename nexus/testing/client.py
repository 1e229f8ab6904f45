"""A plain HTTP client for tests: it sends requests as given and returns responses byte for byte."""

import http.client
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec

ANSWER_S: Final = 20.0


class Reply(NamedTuple):
    """A complete response; its body is dechunked and otherwise unchanged."""

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
    """Send one request over a new connection.

    :param body: bytes are sent unchanged, anything else as JSON; None sends no body.
    :param method: defaults to GET without a body and POST with one.
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
    """Return the body of a chat request that is valid in every protocol."""
    return {"model": model, "messages": [{"role": "user", "content": text}], **more}
