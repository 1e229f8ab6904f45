"""The proxies that are compared: how each is started, and which version it is."""

import importlib.metadata
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

NEXUS: Final = "nexus"

NEXUS_CONFIG: Final = """
[server]
port = {port}

[logging]
format = "json"
"""
"""All defaults, the access log among them, which is info."""

NEXUS_BACKEND: Final = """
[[backends]]
name = "gpu-{port}"
url = "http://127.0.0.1:{port}"
type = "vllm"
max_in_flight = 10000
"""

NGINX_CONFIG: Final = """
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/nginx.err crit;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    keepalive_requests 100000000;
    client_body_buffer_size 1m;
    upstream backend {{ server 127.0.0.1:{upstream}; keepalive 1024; keepalive_requests 100000000; }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{
            proxy_pass http://backend;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
        }}
    }}
}}
"""


class Site(msgspec.Struct, frozen=True):
    """What a proxy is given: a port to listen on, the ports of its upstreams, a folder of its own."""

    port: int
    upstreams: tuple[int, ...]
    folder: Path
    spare_port: int


class Proxy(msgspec.Struct, frozen=True):
    """One of those that are compared."""

    name: str
    version: str
    command: Callable[[Site], Sequence[str]]
    """Writes what configuration it needs and returns the command line."""


def installed() -> list[Proxy]:
    """Return Nexus, and those of its neighbours that this machine has."""
    return [Proxy(NEXUS, importlib.metadata.version("nexus-proxy"), _start_nexus), *_nginx(), *_vllm_router()]


def nexus_without_access_lines() -> Proxy:
    """Return a Nexus that differs in this alone: its log has no line for a request that succeeds."""

    def start(site: Site) -> Sequence[str]:
        return _nexus(_write_nexus_config(site, logging='component_levels = { proxy = "error" }\n'))

    return Proxy(f"{NEXUS} without access lines", "", start)


def other(name: str, command: str) -> Proxy:
    """Return a proxy that *command* starts, in which ``{port}``, ``{upstream}`` (a URL) and ``{config}`` (a
    configuration file for Nexus, for another version of it) are filled in.
    """

    def start(site: Site) -> Sequence[str]:
        config = _write_nexus_config(site)
        upstream = f"http://127.0.0.1:{site.upstreams[0]}"
        return [part.format(port=site.port, upstream=upstream, config=config) for part in shlex.split(command)]

    return Proxy(name, "", start)


def _start_nexus(site: Site) -> Sequence[str]:
    return _nexus(_write_nexus_config(site))


def _nexus(config: Path) -> Sequence[str]:
    return [sys.executable, "-m", "nexus", "--config", str(config)]


def _write_nexus_config(site: Site, logging: str = "") -> Path:
    backends = "".join(NEXUS_BACKEND.format(port=port) for port in site.upstreams)
    config = site.folder / "nexus.toml"
    config.write_text(NEXUS_CONFIG.format(port=site.port) + logging + backends)
    return config


def _nginx() -> list[Proxy]:
    program = _find("nginx")
    if program is None:
        return []

    def start(site: Site) -> Sequence[str]:
        config = site.folder / "nginx.conf"
        config.write_text(NGINX_CONFIG.format(folder=site.folder, port=site.port, upstream=site.upstreams[0]))
        return [program, "-c", str(config)]

    said = subprocess.run([program, "-v"], capture_output=True, text=True, check=False).stderr
    return [Proxy("nginx", said.strip().rpartition("/")[2], start)]


def _vllm_router() -> list[Proxy]:
    program = _find("vllm-router")
    if program is None:
        return []

    def start(site: Site) -> Sequence[str]:
        urls = [f"http://127.0.0.1:{port}" for port in site.upstreams]
        options = {
            "--host": "127.0.0.1",
            "--port": str(site.port),
            "--policy": "round_robin",
            "--max-concurrent-requests": "100000",
            "--prometheus-port": str(site.spare_port),
        }
        return [program, "--worker-urls", *urls, *(word for option in options.items() for word in option)]

    return [Proxy("vllm-router", _version_by_its_python(Path(program), "vllm-router"), start)]


def _find(name: str) -> str | None:
    """Return the program *name* on the path, or beside our own interpreter."""
    return shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent))


def _version_by_its_python(script: Path, distribution: str) -> str:
    """Ask the interpreter in the script's first line: it need not be ours."""
    python = script.read_text(errors="replace").partition("\n")[0].removeprefix("#!").strip()
    asked = f"import importlib.metadata as m; print(m.version({distribution!r}))"
    said = subprocess.run([*shlex.split(python), "-c", asked], capture_output=True, text=True, check=False)
    return said.stdout.strip() or "of unknown version"
