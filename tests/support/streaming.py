"""A streamed response that a thread reads while the test does something else."""

import http.client
import threading
from collections.abc import Mapping
from typing import Any

import msgspec

from nexus.testing.client import ANSWER_S, chat


class Streaming:
    """One request, whose response has begun."""

    def __init__(
        self, url: str, path: str = "/v1/chat/completions", body: Mapping[str, Any] | None = None, model: str = "llama3"
    ) -> None:
        self._connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=ANSWER_S)
        encoded = msgspec.json.encode(body or chat(model, stream=True))
        self._connection.request("POST", path, encoded, {"Content-Type": "application/json"})
        self._response = self._connection.getresponse()
        self.backend = self._response.headers["X-Nexus-Backend"]
        self.received = self._response.readline()
        self.is_whole: bool | None = None
        """Whether its framing was complete at the end; None before that."""
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        try:
            self.received += self._response.read()
            self.is_whole = True
        except http.client.IncompleteRead as exc:
            self.received += exc.partial
            self.is_whole = False
        finally:
            self._connection.close()

    @property
    def is_under_way(self) -> bool:
        return self._thread.is_alive()

    def end(self) -> bytes:
        """Wait for the end, and return all that was received."""
        self._thread.join(ANSWER_S)
        return self.received

    def is_done(self) -> bool:
        """Wait for the end, and return whether the stream ended as the OpenAI protocol wants it."""
        return self.end().rstrip().endswith(b"data: [DONE]")
