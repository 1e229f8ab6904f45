"""Normalises the URL of the HTTP proxy for a backend, and finds it in the environment."""

import ipaddress
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from nexus.config.rules import urls

ENVIRONMENT: Final = "environment"
"""The value of ``https_proxy`` that stands for the variables."""
_VARIABLES: Final[Mapping[str, tuple[str, ...]]] = {
    "http": ("http_proxy", "all_proxy"),
    "https": ("https_proxy", "all_proxy"),
}


def normalised(url: str) -> tuple[str, str | None]:
    """Return the *url* of a proxy as ``http://host:port``, and its ``user:password``, None when it has none.

    :raises ValueError: it is invalid; the text does not quote it.
    """
    bare, login = urls.without_user(url if "://" in url else f"http://{url}")
    normal = urls.normalised(bare)
    parts = urlsplit(normal)
    if parts.scheme != "http" or parts.path:
        raise ValueError("expected http://host:port, as proxies are reached without TLS")
    return normal, login


def variable_for(url: str, environ: Mapping[str, str]) -> str | None:
    """Return the name of the variable with the proxy for the normalised *url*; None for no proxy."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or urls.DEFAULT_PORTS[parts.scheme]
    if _is_excepted(host, port, environ.get("no_proxy") or environ.get("NO_PROXY") or ""):
        return None
    names = [spelt for name in _VARIABLES[parts.scheme] for spelt in (name, name.upper())]
    return next((name for name in names if environ.get(name)), None)


def _is_excepted(host: str, port: int, no_proxy: str) -> bool:
    return any(_matches(host, port, entry) for entry in no_proxy.replace(",", " ").lower().split())


def _matches(host: str, port: int, entry: str) -> bool:
    """Whether *entry* of ``no_proxy`` matches: a name and its subdomains, an address, a network, or ``*``."""
    if entry == "*":
        return True
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(entry.strip("[]"), strict=False)
    except ValueError:
        name, _, wanted = entry.rpartition(":") if entry.count(":") == 1 or "]:" in entry else (entry, "", "")
        name = name.strip("[]").removeprefix("*").removeprefix(".")
        return wanted in ("", str(port)) and bool(name) and (host == name or host.endswith(f".{name}"))
