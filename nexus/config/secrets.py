"""Resolves references to secrets, and keeps secrets from being printed by accident."""

import hashlib
import hmac
import re
import stat
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

import msgspec

from nexus.config.faults import Fault, KeyPath
from nexus.config.quoting import shown, shown_path
from nexus.config.rules import proxies
from nexus.config.schema import ApiKeyConfig, BackendConfig, Config

_SHA256: Final = re.compile(r"[0-9a-fA-F]{64}")
_HINT: Final = 'write "env:NAME" and set that variable, or "file:PATH"'
MAX_SECRET_BYTES: Final = 16 * 1024
CREDENTIAL_HEADERS: Final = frozenset({"authorization", "x-api-key", "api-key", "x-goog-api-key", "cookie"})
"""Headers that are credentials, wherever their value is written."""


class Secret:
    """A text that only :meth:`reveal` returns."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the text; never for a log, an error or a page."""
        return self._text

    def __repr__(self) -> str:
        return "Secret('***')"

    def __str__(self) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._text.encode(), other._text.encode())

    def __hash__(self) -> int:
        return hash(self._text)


class KeyRing:
    """The SHA-256 digests of the keys that clients may send."""

    __slots__ = ("_digests",)

    def __init__(self, digests: Iterable[bytes]) -> None:
        self._digests = tuple(digests)

    def __len__(self) -> int:
        return len(self._digests)

    def accepts(self, presented: bytes) -> bool:
        """Return whether *presented* is one of the keys, in constant time."""
        digest = hashlib.sha256(presented).digest()
        found = False
        for known in self._digests:
            # No early exit: its timing would reveal the position of a key.
            found |= hmac.compare_digest(digest, known)
        return found


class Credentials(msgspec.Struct, frozen=True):
    """What is sent to one backend besides its key; any of it may be secret."""

    basic_auth: Secret | None = None
    """As ``user:password``."""
    headers: Mapping[str, Secret] = {}
    query: Mapping[str, Secret] = {}
    https_proxy: str | None = None
    """The normalised URL of the proxy on the way to it."""
    proxy_login: Secret | None = None
    """The credentials for that proxy, as ``user:password``."""
    secrets: tuple[Secret, ...] = ()
    """The values among these that are credentials."""


class Vault:
    """Resolves references to secrets, and collects warnings."""

    def __init__(self, environ: Mapping[str, str], contents: Mapping[str, bytes] | None = None) -> None:
        """:param contents: of files that were read before, by name."""
        self._environ = environ
        self.contents = {**(contents or {})}
        """What was read from each file, and what was read before."""
        self._sources: Final[Mapping[str, Callable[[str, KeyPath], str]]] = {
            "env": self._from_variable,
            "file": self._from_file,
        }
        self.warnings: list[str] = []
        self.found: list[Secret] = []
        """Every resolved secret, for the log to hide."""

    def server_keys(self, config: Config) -> KeyRing:
        """Return ``server.api_keys``; raise :class:`Fault` for a reference that cannot be resolved."""
        return self._ring("api_keys", config.server.api_keys)

    def admin_keys(self, config: Config) -> KeyRing:
        """Return ``server.admin_keys``; raise :class:`Fault` likewise."""
        return self._ring("admin_keys", config.server.admin_keys)

    def api_key_digests(self, config: Config) -> Mapping[bytes, ApiKeyConfig]:
        """Return the tables of ``server.api_keys`` by the digest of their key; raise :class:`Fault` likewise."""
        return {
            self._digest(entry.key, ("server", "api_keys", index)): entry
            for index, entry in enumerate(config.server.api_keys)
            if isinstance(entry, ApiKeyConfig)
        }

    def backend_keys(self, config: Config) -> dict[str, Secret]:
        """Return the key of each backend that has one, by its name; raise :class:`Fault` likewise."""
        return {
            backend.name: self.resolve(backend.api_key, ("backends", index, "api_key"))
            for index, backend in enumerate(config.backends)
            if backend.api_key is not None
        }

    def credentials(self, config: Config, logins: Mapping[str, str]) -> dict[str, Credentials]:
        """Return the other credentials of each backend, by its name; raise :class:`Fault` likewise.

        :param logins: the ``user:password`` in the URL of a backend, by its name.
        """
        return {
            backend.name: self._credentials(backend, logins.get(backend.name), ("backends", index))
            for index, backend in enumerate(config.backends)
        }

    def _credentials(self, backend: BackendConfig, login: str | None, path: KeyPath) -> Credentials:
        basic_auth = None if login is None else self._kept(login, login.partition(":")[2])
        if backend.basic_auth is not None:
            basic_auth = self.resolve(backend.basic_auth, (*path, "basic_auth"), may_have_spaces=True)
            if ":" not in basic_auth.reveal():
                raise Fault((*path, "basic_auth"), "does not hold user:password", "put a colon between the two")
            self._kept(basic_auth.reveal(), basic_auth.reveal().partition(":")[2])
        headers = {name: self._header(name, text, (*path, "headers", name)) for name, text in backend.headers.items()}
        query = {name: self._value(text, (*path, "query", name)) for name, text in backend.query.items()}
        https_proxy, proxy_login = self._proxy(backend, (*path, "https_proxy"))
        return Credentials(
            https_proxy=https_proxy,
            proxy_login=proxy_login,
            basic_auth=basic_auth,
            headers=headers,
            query=query,
            secrets=(
                *(
                    value
                    for name, value in headers.items()
                    if _is_reference(backend.headers[name]) or name.lower() in CREDENTIAL_HEADERS
                ),
                *(value for name, value in query.items() if _is_reference(backend.query[name])),
            ),
        )

    def _proxy(self, backend: BackendConfig, path: KeyPath) -> tuple[str | None, Secret | None]:
        """Return the URL of the proxy for *backend*, and the credentials for it."""
        text, place = backend.https_proxy, "bad URL"
        if text == proxies.ENVIRONMENT:
            variable = proxies.variable_for(backend.url, self._environ)
            text, place = self._environ[variable] if variable else None, f"the variable {variable} holds a bad URL"
        elif text is not None and _is_reference(text):
            text, place = self.resolve(text, path).reveal(), f"{shown(text)} leads to a bad URL"
        if text is None:
            return None, None
        try:
            url, login = proxies.normalised(text)
        except ValueError as exc:
            raise Fault(path, f"{place}: {exc}", "write it as http://proxy:3128") from None
        return url, None if login is None else self._kept(login, login.partition(":")[2])

    def _header(self, name: str, text: str, path: KeyPath) -> Secret:
        if name.lower() in CREDENTIAL_HEADERS and not _is_reference(text):
            # The key in `Bearer KEY` is hidden by itself too.
            return self._kept(text, text.rpartition(" ")[2])
        return self._value(text, path)

    def _value(self, text: str, path: KeyPath) -> Secret:
        """Return *text*, resolved if it is a reference."""
        if _is_reference(text):
            return self.resolve(text, path, may_have_spaces=True)
        return Secret(text)

    def _kept(self, text: str, *parts: str) -> Secret:
        """Return *text* as a secret, and have the log hide it and *parts*."""
        self.found += [Secret(each) for each in (text, *parts) if each]
        return Secret(text)

    def otel_headers(self, config: Config) -> dict[str, Secret]:
        """Return the value of each header of ``otel.headers``; raise :class:`Fault` likewise."""
        if not config.otel.enabled:
            # Its keys need not exist while it is switched off.
            return {}
        return {
            # With spaces, because a value may be `Bearer KEY`.
            name: self.resolve(reference, ("otel", "headers", name), may_have_spaces=True)
            for name, reference in config.otel.headers.items()
        }

    def resolve(self, reference: str, path: KeyPath, *, may_have_spaces: bool = False) -> Secret:
        """Return the secret for *reference*, the value of the key at *path*."""
        scheme, _, place = reference.partition(":")
        source = self._sources.get(scheme)
        if source is None or not place:
            # The error does not quote the value, which may be the secret itself.
            raise Fault(path, "expected a reference to a secret, not the secret", _HINT)
        secret = source(place, path).strip()
        if not secret:
            raise Fault(path, f"{scheme}:{shown(place)} is empty")
        if not secret.isascii() or not secret.isprintable() or (" " in secret and not may_have_spaces):
            raise Fault(path, f"{scheme}:{shown(place)} holds a character that is not allowed in a key")
        # The key in `Bearer KEY` is hidden by itself too.
        self.found += [Secret(text) for text in {secret, secret.rpartition(" ")[2]}]
        return Secret(secret)

    def _ring(self, key: str, entries: Iterable[str | ApiKeyConfig]) -> KeyRing:
        return KeyRing(self._digest(reference_of(entry), ("server", key, index)) for index, entry in enumerate(entries))

    def _digest(self, reference: str, path: KeyPath) -> bytes:
        scheme, _, digest = reference.partition(":")
        if scheme != "sha256":
            return hashlib.sha256(self.resolve(reference, path).reveal().encode()).digest()
        if not _SHA256.fullmatch(digest):
            raise Fault(path, "expected 64 hexadecimal digits after sha256:", "printf %s KEY | sha256sum")
        return bytes.fromhex(digest)

    def _from_variable(self, name: str, path: KeyPath) -> str:
        try:
            return self._environ[name]
        except KeyError:
            hint = "set it where Nexus is started, or keep the secret in a file and write file:PATH"
            raise Fault(path, f"the variable {shown(name)} is not set", hint) from None

    def _from_file(self, name: str, path: KeyPath) -> str:
        if name not in self.contents:
            self.contents[name] = self._read(name, path)
        content = self.contents[name]
        if len(content) > MAX_SECRET_BYTES:
            raise Fault(path, f"{shown_path(name)} is too long for a key")
        # Bytes that are not UTF-8 become characters that no key may have.
        return content.decode("utf-8", "replace")

    def _read(self, name: str, path: KeyPath) -> bytes:
        try:
            with Path(name).open("rb") as file:
                content = file.read(MAX_SECRET_BYTES + 1)
            is_open_to_all = Path(name).stat().st_mode & stat.S_IROTH
        except (OSError, ValueError) as exc:
            reason = exc.strerror if isinstance(exc, OSError) else "no file name"
            raise Fault(path, f"{shown_path(name)} cannot be read: {reason}") from exc
        if is_open_to_all:
            self.warnings.append(f"{shown(name)} holds a secret and every user can read it; chmod o-r {shown(name)}")
        return content


def reference_of(entry: str | ApiKeyConfig) -> str:
    """Return the reference to the key of an entry of ``server.api_keys``."""
    return entry if isinstance(entry, str) else entry.key


def _is_reference(text: str) -> bool:
    return text.startswith(("env:", "file:"))
