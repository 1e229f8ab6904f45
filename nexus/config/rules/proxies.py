"""The HTTP proxy on the way to a backend: its spelling, and which one the usual variables name."""

import ipaddress
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from nexus.config.rules import urls

ENVIRONMENT: Final = "environment"
"""In the place of a proxy's URL: what the variables say."""
_VARIABLES: Final[Mapping[str, tuple[str, ...]]] = {
    "http": ("http_proxy", "all_proxy"),
    "https": ("https_proxy", "all_proxy"),
}


def normalised(url: str) -> tuple[str, str | None]:
    """Return *url* of a proxy as ``http://host:port``, and its ``user:password``, None when it has none.

    Raise ValueError that says what is wrong, without repeating *url*.
    """
    bare, login = urls.without_user(url if "://" in url else f"http://{url}")
    normal = urls.normalised(bare)
    parts = urlsplit(normal)
    if parts.scheme != "http" or parts.path:
        raise ValueError("expected http://host:port, as proxies are reached without TLS")
    return normal, login


def variable_for(url: str, environ: Mapping[str, str]) -> str | None:
    """Return the name of the variable that holds the proxy for *url*, which is normalised; None for no proxy."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or urls.DEFAULT_PORTS[parts.scheme]
    if _is_excepted(host, port, environ.get("no_proxy") or environ.get("NO_PROXY") or ""):
        return None
    names = [spelt for name in _VARIABLES[parts.scheme] for spelt in (name, name.upper())]
    return next((name for name in names if environ.get(name)), None)


def _is_excepted(host: str, port: int, no_proxy: str) -> bool:
    return any(_is_meant(host, port, entry) for entry in no_proxy.replace(",", " ").lower().split())


def _is_meant(host: str, port: int, entry: str) -> bool:
    """Whether *entry* of ``no_proxy`` means the host: a name with all below it, an address, a network, or ``*``."""
    if entry == "*":
        return True
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(entry.strip("[]"), strict=False)
    except ValueError:
        name, _, wanted = entry.rpartition(":") if entry.count(":") == 1 or "]:" in entry else (entry, "", "")
        name = name.strip("[]").removeprefix("*").removeprefix(".")
        return wanted in ("", str(port)) and bool(name) and (host == name or host.endswith(f".{name}"))
