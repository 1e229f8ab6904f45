"""Clients that send requests continuously while a test changes something."""

import threading
from collections.abc import Callable
from typing import Any, Self

from nexus.testing.client import Reply, ask, chat
from nexus.testing.waiting import until


def backend_of(reply: Reply) -> str:
    """Return the backend that answered, from the header."""
    return str(reply.headers["X-Nexus-Backend"])


def simulator_of(reply: Reply) -> str:
    """Return the name of the simulated server that answered, with which its text begins."""
    if reply.body.startswith(b"data:"):
        first = next(line for line in reply.body.split(b"\n") if b'"content":"' in line and b'"content":""' not in line)
        return first.partition(b'"content":"')[2].split(b'"')[0].split()[0].strip(b":,.").decode()
    text: str = reply.json()["choices"][0]["message"]["content"]
    return text.split(maxsplit=1)[0].strip(":,.")


class SteadyLoad:
    """Runs clients in threads, half of them streaming, for the duration of the context."""

    def __init__(
        self,
        url: str,
        clients: int = 4,
        server_of: Callable[[Reply], str] = backend_of,
        max_tokens: int | None = 4,
    ) -> None:
        """:param server_of: returns the server that sent a response."""
        self._url, self._server_of, self._is_over = url, server_of, threading.Event()
        self._limit: dict[str, Any] = {} if max_tokens is None else {"max_tokens": max_tokens}
        self._threads = [threading.Thread(target=self._run, args=(number % 2 == 0,)) for number in range(clients)]
        self.answers: list[str] = []
        """The server of each successful response, in order."""
        self.failures: list[Any] = []

    def wait_for(self, server: str, count: int = 3, within_s: float = 20.0) -> None:
        """Wait for *count* further responses of one server."""
        wanted = self.answers.count(server) + count
        until(lambda: self.answers.count(server) >= wanted, within_s)

    def goes_to(self, *servers: str, of_next: int = 30) -> bool:
        """Wait for *of_next* further responses, and return whether exactly these servers sent them."""
        since = len(self.answers)
        until(lambda: len(self.answers) >= since + of_next or self.failures, within_s=15)
        return set(self.answers[since:]) == set(servers)

    def wait_until_only(self, *servers: str, within_s: float = 8.0) -> None:
        """Wait until the last twenty responses came from exactly these servers."""
        until(lambda: len(self.answers) > 20 and set(self.answers[-20:]) == set(servers), within_s)

    def _run(self, is_stream: bool) -> None:
        while not self._is_over.is_set():
            try:
                reply = ask(self._url, "/v1/chat/completions", chat(stream=is_stream, **self._limit))
            except OSError as exc:
                self.failures.append(exc)
                continue
            if reply.status == 200 and (not is_stream or reply.body.endswith(b"data: [DONE]\n\n")):
                self.answers.append(self._server_of(reply))
            else:
                self.failures.append((reply.status, reply.body))

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join()
