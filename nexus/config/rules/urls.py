"""Normalises backend URLs, so that two of them are equal if they are the same server."""

import ipaddress
import re
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit

DEFAULT_PORTS: Final = {"http": 80, "https": 443}

_HOST: Final = re.compile(r"[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?\.?")
_PATH: Final = re.compile(r"[\w.~!$&'()*+,;=:@%/-]*", re.ASCII)


VERSION_SEGMENT: Final = re.compile(r"/v[0-9]+(\.[0-9]+)?((alpha|beta|preview)[0-9]*)?(?=/|$)")
"""A path segment with the version of an API, such as ``v1``, ``v4`` or ``v1beta``."""


def without_user(url: str) -> tuple[str, str | None]:
    """Return *url* without its credentials, and these as ``user:password``, None when it has none.

    :raises ValueError: they have another form; the text does not quote them.
    """
    begin, separator, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    user, at, host = authority.rpartition("@")
    if not at:
        return url, None
    if ":" not in user:
        raise ValueError("expected user:password before the @")
    return f"{begin}{separator}{host}{slash}{path}", unquote(user)


def normalised(url: str, *, path_is_complete: bool | None = None) -> str:
    """Return *url* as scheme, host, port unless it is the default, and base path.

    The path has no slash at the end, and no ``/v1`` unless it follows another version.

    :param path_is_complete: True to keep a ``/v1`` at the end in any case, False to remove it in any case.
    :raises ValueError: it is invalid; the text does not quote it, because it may hold a password.
    """
    if not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError("holds a character that is not allowed in a URL")
    if "://" not in url:
        raise ValueError("expected it to begin with http:// or https://")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError("expected http://host:port, with a port from 1 to 65535 and brackets around IPv6") from None
    _refuse_the_rest(parts)
    if port == 0:
        raise ValueError("expected a port from 1 to 65535")
    suffix = "" if port is None or port == DEFAULT_PORTS[parts.scheme] else f":{port}"
    return f"{parts.scheme}://{_host(parts.hostname or '')}{suffix}{_base_path(parts.path, path_is_complete)}"


def _refuse_the_rest(parts: SplitResult) -> None:
    if parts.scheme not in DEFAULT_PORTS:
        raise ValueError("expected it to begin with http:// or https://")
    if "@" in parts.netloc:
        raise ValueError("credentials do not belong in a URL; use api_key")
    if parts.query or parts.fragment:
        raise ValueError("expected no query and no fragment")
    if not _PATH.fullmatch(parts.path):
        raise ValueError("holds a character that is not allowed in a URL")


def _host(host: str) -> str:
    if ":" in host:
        try:
            return f"[{ipaddress.IPv6Address(host)}]"
        except ValueError:
            raise ValueError("expected an IPv6 address within the brackets") from None
    if not _HOST.fullmatch(host):
        raise ValueError("expected a host name or an address after ://")
    return host


def _base_path(path: str, is_complete: bool | None) -> str:
    """Return *path* without trailing slashes, and without the ``/v1`` that OpenAI's clients expect in a base URL."""
    path = path.rstrip("/")
    while path.endswith("/v1") and not is_complete:
        before = path.removesuffix("/v1").rstrip("/")
        if is_complete is None and not before.endswith("/v1") and VERSION_SEGMENT.search(before):
            # The earlier version replaces a client's /v1, so this /v1 is part of the path.
            break
        path = before
    return path
