"""Calls the pages of a running proxy."""

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
    """An HTTP response."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def document(self, url: str) -> Any:
        """Return the decoded JSON. :raises NexusError: it is invalid; the text names *url*."""
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
    """A proxy that is expected to run at an address."""

    url: str
    key: Secret | None = None
    found: Running | None = None
    """Its state file, None when it has none on this machine."""
    others: tuple[Running, ...] = ()
    """Other running proxies, which the error lists when none answers at :attr:`url`."""

    def version(self) -> str:
        """Return its release. :raises NoProxy: nothing answers, or another program does."""
        # Without the key, which must not be sent to another program.
        try:
            version = _request(self.url, "GET", "/health", {}).headers.get(VERSION_HEADER)
        except NoProxy as exc:
            raise NoProxy(f"{exc}{self._elsewhere}") from exc
        if version is None:
            raise NoProxy(f"what listens at {self.url} is not Nexus{self._elsewhere}")
        return shown(version)

    def introduce(self) -> str:
        """Print its address on standard error, and return its release. :raises NoProxy: as :meth:`version`."""
        version = self.version()
        click.echo(f"nexus-proxy {version} at {self.place}", err=True)
        return version

    @property
    def place(self) -> str:
        """Its URL, with its process and configuration if they are known."""
        if self.found is None:
            return self.url
        return f"{self.url} (pid {self.found.pid}, {_file_name(self.found.config)})"

    def ask(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> Answer:
        """Send a request with the key and return the response.

        :raises NoProxy: nothing answers.
        :raises KeyRefused: it requires another key.
        """
        authorization = {} if self.key is None else {"Authorization": f"Bearer {self.key.reveal()}"}
        answer = _request(self.url, method, path, {**(headers or {}), **authorization}, body)
        if answer.status == http.client.UNAUTHORIZED and answer.error[0] == "invalid_api_key":
            raise KeyRefused(f"the proxy at {self.url} {self._required_key(path)}: --api-key env:NAME")
        return answer

    def call(self, method: str, path: str, document: Any = None) -> Any:
        """Send *document*, if there is one, as JSON, and return the JSON of the response.

        :raises NexusError: the response is an error, which the text quotes.
        """
        body = None if document is None else msgspec.json.encode(document)
        answer = self.ask(method, path, {} if body is None else {"Content-Type": "application/json"}, body)
        if answer.status not in (http.client.OK, http.client.CREATED):
            code, message = answer.error
            raise NexusError(f"the proxy at {self.url} refuses: {answer.status} {code}: {message}")
        return answer.document(self.url)

    def _required_key(self, path: str) -> str:
        """Return which key *path* requires, after it has refused the present one."""
        if self.key is None:
            return "asks for a key"
        if path.startswith(ADMIN_PAGES) and self._is_key_of_a_client(self.key):
            return "asks for a key of an administrator (server.admin_keys), and the one that was shown is a client's"
        return "asks for a key, and refuses the one that was shown"

    def _is_key_of_a_client(self, key: Secret) -> bool:
        authorization = {"Authorization": f"Bearer {key.reveal()}"}
        return _request(self.url, "GET", "/v1/models", authorization).status != http.client.UNAUTHORIZED

    @property
    def _elsewhere(self) -> str:
        return f"; running are {listing(self.others)}" if self.others else ""


def listing(running: Iterable[Running]) -> str:
    return ", ".join(f"{each.url} (pid {each.pid}, {_file_name(each.config)})" for each in running)


def _file_name(config: str | None) -> str:
    if config is None:
        return "no file"
    path = Path(config)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else config


def _request(url: str, method: str, path: str, headers: Mapping[str, str], body: bytes | None = None) -> Answer:
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
