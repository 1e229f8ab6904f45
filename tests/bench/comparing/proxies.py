"""A proxy that is measured: how it is started, which version it is, and what of it is configured."""

import importlib.metadata
import shlex
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final

import msgspec

NEXUS: Final = "nexus"

NEXUS_CONFIG: Final = """
[server]
port = {port}

[logging]
format = "json"
"""

NEXUS_BACKEND: Final = """
[[backends]]
name = "gpu-{port}"
url = "http://127.0.0.1:{port}"
type = "vllm"
"""


class Site(msgspec.Struct, frozen=True):
    """What a proxy is given: a port to listen on, the ports of its upstreams, a folder of its own."""

    port: int
    upstreams: tuple[int, ...]
    folder: Path
    spare_port: int


def no_headers(_: Site) -> str:
    return ""


class Proxy(msgspec.Struct, frozen=True):
    """One of those that are compared."""

    name: str
    version: str
    command: Callable[[Site], Sequence[str]]
    """Writes what configuration it needs and returns the command line."""
    configured: str = ""
    """What differs from its defaults, and why, besides the ports."""
    environ: Mapping[str, str] = MappingProxyType({})
    headers: Callable[[Site], str] = no_headers
    """Return the header lines that each request to it needs, each with its CRLF."""


def nexus() -> Proxy:
    """Return Nexus with its defaults, all installed plugins and the access log among them."""
    return _nexus(NEXUS, "", "one backend of type vllm; the log is JSON; all published plugins are installed")


def nexus_without_access_lines() -> Proxy:
    """Return a Nexus that differs in this alone: its log has no line for a request that succeeds."""
    return _nexus("nexus without access lines", 'component_levels = { proxy = "error" }\n')


def nexus_without_plugins() -> Proxy:
    """Return a Nexus that differs in this alone: no plugin is loaded."""
    return _nexus("nexus without plugins", "[plugin_loading]\nautoload = false\n")


def other(name: str, command: str) -> Proxy:
    """Return a proxy that *command* starts, in which ``{port}``, ``{upstream}`` (a URL) and ``{config}`` (a
    configuration file for Nexus, for another version of it) are filled in.
    """

    def start(site: Site) -> Sequence[str]:
        config = _write_nexus_config(site, "")
        upstream = f"http://127.0.0.1:{site.upstreams[0]}"
        return [part.format(port=site.port, upstream=upstream, config=config) for part in shlex.split(command)]

    return Proxy(name, "", start)


def find(name: str, *folders: Path) -> str | None:
    """Return the program *name* on the path, beside our own interpreter, or in one of *folders*."""
    further = (Path(sys.executable).parent, *folders)
    return shutil.which(name) or next(filter(None, (shutil.which(name, path=str(folder)) for folder in further)), None)


def _nexus(name: str, settings: str, configured: str = "") -> Proxy:
    def start(site: Site) -> Sequence[str]:
        return [sys.executable, "-m", "nexus", "--config", str(_write_nexus_config(site, settings))]

    return Proxy(name, importlib.metadata.version("nexus-proxy"), start, configured)


def _write_nexus_config(site: Site, settings: str) -> Path:
    backends = "".join(NEXUS_BACKEND.format(port=port) for port in site.upstreams)
    config = site.folder / "nexus.toml"
    config.write_text(NEXUS_CONFIG.format(port=site.port) + settings + backends)
    return config
