"""Talks to the proxy that runs: what it is asked, with which key, and what it says."""

import http.client
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import click
import msgspec

from nexus.app.process.state_file import Running
from nexus.cli.exit_codes import KeyRefused, NoProxy
from nexus.config.quoting import shown
from nexus.config.secrets import Secret
from nexus.errors import NexusError

CONNECT_S: Final = 2.0
ANSWER_S: Final = 30.0
VERSION_HEADER: Final = "X-Nexus-Version"
ADMIN_PAGES: Final = "/admin/"


class Answer(msgspec.Struct, frozen=True):
    """What came back."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def document(self, url: str) -> Any:
        """Return the JSON in it. :raises NexusError: it is none, which *url* should not have sent."""
        try:
            return msgspec.json.decode(self.body)
        except msgspec.DecodeError as exc:
            raise NexusError(f"the answer of {url} cannot be read: {exc}") from exc

    @property
    def error(self) -> tuple[str, str]:
        """Code and message of an error in any protocol."""
        try:
            document: Any = msgspec.json.decode(self.body)
        except msgspec.DecodeError:
            return "unknown", self.body[:200].decode(errors="replace")
        error = document.get("error") if isinstance(document, dict) else None
        if isinstance(error, dict):
            return str(error.get("code")), str(error.get("message"))
        return (
            (str(document.get("code")), str(error)) if isinstance(document, dict) else ("unknown", str(document)[:200])
        )


class Proxy(msgspec.Struct, frozen=True):
    """A proxy that runs, as it seems."""

    url: str
    key: Secret | None = None
    found: Running | None = None
    """What its state file says, None when it has none here."""
    others: tuple[Running, ...] = ()
    """Those that run besides, for the error when there is none at :attr:`url`."""

    def version(self) -> str:
        """Return its release. :raises NoProxy: nothing answers, or something else does."""
        # The key is for Nexus alone: whether it is Nexus that listens there is found out without it.
        try:
            version = _call(self.url, "GET", "/health", {}).headers.get(VERSION_HEADER)
        except NoProxy as exc:
            raise NoProxy(f"{exc}{self._elsewhere}") from exc
        if version is None:
            raise NoProxy(f"what listens at {self.url} is no Nexus{self._elsewhere}")
        return shown(version)

    def introduce(self) -> str:
        """Say on standard error which proxy it is, and return its release. :raises NoProxy: as :meth:`version`."""
        version = self.version()
        click.echo(f"nexus-proxy {version} at {self.place}", err=True)
        return version

    @property
    def place(self) -> str:
        """Its URL, with its process and configuration if these are known."""
        if self.found is None:
            return self.url
        return f"{self.url} (pid {self.found.pid}, {_file_name(self.found.config)})"

    def ask(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> Answer:
        """Return what it answers, with the key shown.

        :raises NoProxy: nothing answers.
        :raises KeyRefused: it asks for another key.
        """
        shown_key = {} if self.key is None else {"Authorization": f"Bearer {self.key.reveal()}"}
        answer = _call(self.url, method, path, {**(headers or {}), **shown_key}, body)
        if answer.status == http.client.UNAUTHORIZED and answer.error[0] == "invalid_api_key":
            raise KeyRefused(f"the proxy at {self.url} {self._asks_for(path)}: --api-key env:NAME")
        return answer

    def tell(self, method: str, path: str, document: Any = None) -> Any:
        """Return the JSON that it answers with.

        :param document: what is sent as JSON; None: nothing.

        :raises NexusError: it answers with an error; the text is its own.
        """
        body = None if document is None else msgspec.json.encode(document)
        answer = self.ask(method, path, {} if body is None else {"Content-Type": "application/json"}, body)
        if answer.status not in (http.client.OK, http.client.CREATED):
            code, message = answer.error
            raise NexusError(f"the proxy at {self.url} refuses: {answer.status} {code}: {message}")
        return answer.document(self.url)

    def _asks_for(self, path: str) -> str:
        """Return which key *path* wants, after it has refused the one that was shown, or the lack of one."""
        if self.key is None:
            return "asks for a key"
        if path.startswith(ADMIN_PAGES) and self._takes_key():
            return "asks for a key of an administrator (server.admin_keys), and the one that was shown is a client's"
        return "asks for a key, and refuses the one that was shown"

    def _takes_key(self) -> bool:
        """Whether the key that is shown opens a page of clients."""
        assert self.key is not None  # noqa: S101 - asked only then
        shown_key = {"Authorization": f"Bearer {self.key.reveal()}"}
        return _call(self.url, "GET", "/v1/models", shown_key).status != http.client.UNAUTHORIZED

    @property
    def _elsewhere(self) -> str:
        return f"; running are {listing(self.others)}" if self.others else ""


def listing(running: Iterable[Running]) -> str:
    """Return *running* in a line."""
    return ", ".join(f"{each.url} (pid {each.pid}, {_file_name(each.config)})" for each in running)


def _file_name(config: str | None) -> str:
    if config is None:
        return "no file"
    path = Path(config)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else config


def _call(url: str, method: str, path: str, headers: Mapping[str, str], body: bytes | None = None) -> Answer:
    parts = urlsplit(url)
    connection = _CONNECTIONS[parts.scheme](parts.hostname or "", parts.port, timeout=CONNECT_S)
    try:
        connection.connect()
        connection.sock.settimeout(ANSWER_S)
        connection.request(method, parts.path + path, body, dict(headers))
        answer = connection.getresponse()
        return Answer(answer.status, answer.headers, answer.read())
    except (OSError, http.client.HTTPException) as exc:
        raise NoProxy(f"no proxy answers at {url}: {getattr(exc, 'strerror', None) or exc}") from exc
    finally:
        connection.close()


_CONNECTIONS: Final[Mapping[str, Callable[..., http.client.HTTPConnection]]] = {
    "http": http.client.HTTPConnection,
    "https": http.client.HTTPSConnection,
}
