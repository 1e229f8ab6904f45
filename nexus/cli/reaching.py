"""Reaches the proxy that runs: where it is, with which key, and what it says."""

import http.client
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Self
from urllib.parse import urlsplit

import click
import msgspec

from nexus.config.faults import Fault
from nexus.config.loading import LoadedConfig
from nexus.config.schema import ServerConfig
from nexus.config.secrets import Secret, Vault
from nexus.config.urls import normalised
from nexus.errors import NexusError

CONNECT_S: Final = 2.0
ANSWER_S: Final = 30.0
VERSION_HEADER: Final = "X-Nexus-Version"

_ANY: Final = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - recognised, not bound
"""Where a proxy is found that listens on all addresses."""


class NotThere(NexusError):
    """Nobody is there who could be asked; the text says why."""


class Answer(msgspec.Struct, frozen=True):
    """What came back."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

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

    @classmethod
    def of(cls, loaded: LoadedConfig, url: str | None, api_key: str | None, *, is_admin: bool = False) -> Self:
        """Return the one at *url*, or else the one with the configuration *loaded*.

        The keys of the configuration are shown to nobody but a proxy with this configuration.

        :param api_key: a reference to the key to show.
        :param is_admin: whether an administrator's key is needed.
        """
        if url is None:
            return cls(address_of(loaded.config.server), key_at(api_key) or configured_key(loaded, is_admin=is_admin))
        try:
            return cls(normalised(url), key_at(api_key))
        except ValueError as exc:
            raise click.BadParameter(str(exc), param_hint="--url") from exc

    def version(self) -> str:
        """Return its release. :raises NotThere: it is none, or there is nobody."""
        # The key is for Nexus alone: who else may listen there is found out without it.
        version = _call(self.url, "GET", "/health", {}).headers.get(VERSION_HEADER)
        if version is None:
            raise NotThere(f"what listens at {self.url} is no Nexus")
        return version

    def ask(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> Answer:
        """Return what it answers, with the key shown.

        :raises NotThere: there is nobody, or it asks for another key.
        """
        shown = {} if self.key is None else {"Authorization": f"Bearer {self.key.reveal()}"}
        answer = _call(self.url, method, path, {**(headers or {}), **shown}, body)
        if answer.status == http.client.UNAUTHORIZED and answer.error[0] == "invalid_api_key":
            raise NotThere(f"the proxy at {self.url} asks for a key: --api-key env:NAME")
        return answer

    def tell(self, method: str, path: str) -> Any:
        """Return the JSON that it answers with.

        :raises NexusError: it answers with an error; the text is its own.
        """
        self.version()
        answer = self.ask(method, path)
        if answer.status != http.client.OK:
            code, message = answer.error
            raise NexusError(f"the proxy at {self.url} refuses: {answer.status} {code}: {message}")
        return msgspec.json.decode(answer.body)


def reachable(command: Callable[..., None]) -> Callable[..., None]:
    """Give *command* the options ``--url`` and ``--api-key``."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


_OPTIONS: Final = (
    click.option("--url", help="Ask the proxy that runs there, rather than one with this configuration."),
    click.option("--api-key", metavar="REFERENCE", help="The key to show to it: env:NAME or file:PATH."),
)


def address_of(server: ServerConfig) -> str:
    """Return the URL at which a proxy with this configuration listens."""
    host = _ANY.get(server.host, server.host)
    return f"http://{f'[{host}]' if ':' in host else host}:{server.port}"


def key_at(reference: str | None) -> Secret | None:
    """Return the key to which *reference* leads. :raises click.BadParameter: it leads nowhere."""
    if reference is None:
        return None
    try:
        return Vault(os.environ).resolve(reference, ())
    except Fault as fault:
        raise click.BadParameter(str(fault), param_hint="--api-key") from fault


def configured_key(loaded: LoadedConfig, *, is_admin: bool = False) -> Secret | None:
    """Return the first configured key that can be shown: of some only the digest is known."""
    server = loaded.config.server
    references: Sequence[str] = (*server.admin_keys, *server.api_keys) if is_admin else server.api_keys
    plain = (reference for reference in references if not reference.startswith("sha256:"))
    return key_at(next(plain, None))


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
        raise NotThere(f"nobody answers at {url}: {getattr(exc, 'strerror', None) or exc}") from exc
    finally:
        connection.close()


_CONNECTIONS: Final[Mapping[str, Callable[..., http.client.HTTPConnection]]] = {
    "http": http.client.HTTPConnection,
    "https": http.client.HTTPSConnection,
}
