"""Backend URLs in one spelling, so that two of them are equal when they mean the same server."""

import ipaddress
import re
from typing import Final
from urllib.parse import SplitResult, urlsplit

DEFAULT_PORTS: Final = {"http": 80, "https": 443}

_HOST: Final = re.compile(r"[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?\.?")
_PATH: Final = re.compile(r"[\w.~!$&'()*+,;=:@%/-]*", re.ASCII)


def normalised(url: str) -> str:
    """Return *url* as scheme, host, port unless it is the usual one, and base path.

    The path has no ``/v1`` and no slash at its end. Raise ValueError that says what is wrong, without repeating *url*:
    it may hold a password.
    """
    if not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError("holds a character that no URL may have")
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
    return f"{parts.scheme}://{_host(parts.hostname or '')}{suffix}{_base_path(parts.path)}"


def _refuse_the_rest(parts: SplitResult) -> None:
    if parts.scheme not in DEFAULT_PORTS:
        raise ValueError("expected it to begin with http:// or https://")
    if "@" in parts.netloc:
        raise ValueError("credentials do not belong into a URL; use api_key")
    if parts.query or parts.fragment:
        raise ValueError("expected no query and no fragment")
    if not _PATH.fullmatch(parts.path):
        raise ValueError("holds a character that no URL may have")


def _host(host: str) -> str:
    if ":" in host:
        try:
            return f"[{ipaddress.IPv6Address(host)}]"
        except ValueError:
            raise ValueError("expected an IPv6 address within the brackets") from None
    if not _HOST.fullmatch(host):
        raise ValueError("expected a host name or an address after ://")
    return host


def _base_path(path: str) -> str:
    """Return *path* without trailing slashes and without the ``/v1`` that OpenAI's clients want in a base URL."""
    path = path.rstrip("/")
    while path.endswith("/v1"):
        path = path.removesuffix("/v1").rstrip("/")
    return path
