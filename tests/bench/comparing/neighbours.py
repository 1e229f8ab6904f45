"""The proxies that Nexus is compared with: how each is found, started and configured."""

import json
import re
import shlex
import subprocess
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from comparing.installing import Apt, Npm, Package, Venv
from comparing.proxies import Proxy, Site, find, no_headers

NGINX_CONFIG: Final = """
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/nginx.err crit;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    keepalive_requests 100000000;
    client_max_body_size 64m;
    client_body_buffer_size 2m;
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

HAPROXY_CONFIG: Final = """
global
    nbthread 1
defaults
    mode http
    timeout connect 5s
    timeout client 600s
    timeout server 600s
    http-reuse always
frontend clients
    bind 127.0.0.1:{port} backlog 4096
    default_backend servers
backend servers
    server one 127.0.0.1:{upstream}
"""

LITELLM_CONFIG: Final = """
model_list:
  - model_name: m1
    litellm_params:
      model: openai/m1
      api_base: http://127.0.0.1:{upstream}/v1
      api_key: sk-1234
general_settings:
  dangerously_permit_weak_or_unset_master_key: true
"""


class Neighbour(msgspec.Struct, frozen=True):
    """A proxy that may be installed."""

    name: str
    program: str
    package: Package
    command: Callable[[str, Site], Sequence[str]]
    version: Callable[[str], str]
    configured: str
    environ: dict[str, str] = {}
    headers: Callable[[Site], str] = no_headers

    def installed(self) -> Proxy | None:
        """Return it as a proxy to be measured; None when this machine does not have it."""
        program = find(self.program, self.package.folder)
        if program is None:
            return None
        return Proxy(
            name=self.name,
            version=self.version(program),
            command=lambda site: self.command(program, site),
            configured=self.configured,
            environ=self.environ,
            headers=self.headers,
        )


def chosen(names: Iterable[str], say: Callable[[str], None]) -> list[Proxy]:
    """Return those of the neighbours *names* that are installed; tell *say* of each that is not, and why."""
    found = []
    for name in names:
        neighbour = NEIGHBOURS[name]
        proxy = neighbour.installed()
        if proxy is None:
            say(f"{name}: skipped, because it is not installed; --install gets {neighbour.package.text}")
        else:
            found.append(proxy)
    return found


def install(names: Iterable[str], say: Callable[[str], None]) -> None:
    """Install those of the neighbours *names* that are missing; tell *say* what was done, or why it was not."""
    for name in names:
        neighbour = NEIGHBOURS[name]
        if find(neighbour.program, neighbour.package.folder) is None:
            say(f"{name}: {neighbour.package.install()}")


def _start_nginx(program: str, site: Site) -> Sequence[str]:
    config = site.folder / "nginx.conf"
    config.write_text(NGINX_CONFIG.format(folder=site.folder, port=site.port, upstream=site.upstreams[0]))
    return [program, "-c", str(config)]


def _start_haproxy(program: str, site: Site) -> Sequence[str]:
    config = site.folder / "haproxy.cfg"
    config.write_text(HAPROXY_CONFIG.format(port=site.port, upstream=site.upstreams[0]))
    return [program, "-db", "-f", str(config)]


def _start_vllm_router(program: str, site: Site) -> Sequence[str]:
    return [program, *_router_options(site)]


def _start_sglang_router(program: str, site: Site) -> Sequence[str]:
    return [program, "launch", *_router_options(site)]


def _router_options(site: Site) -> Iterable[str]:
    options = {
        "--host": "127.0.0.1",
        "--port": str(site.port),
        "--policy": "round_robin",
        "--prometheus-port": str(site.spare_port),
    }
    urls = (f"http://127.0.0.1:{port}" for port in site.upstreams)
    return (*(word for option in options.items() for word in option), "--worker-urls", *urls)


def _start_litellm(program: str, site: Site) -> Sequence[str]:
    config = site.folder / "litellm.yaml"
    config.write_text(LITELLM_CONFIG.format(upstream=site.upstreams[0]))
    return [program, "--config", str(config), "--host", "127.0.0.1", "--port", str(site.port), "--telemetry", "False"]


def _start_portkey(program: str, site: Site) -> Sequence[str]:
    return [program, f"--port={site.port}", "--headless"]


def _portkey_headers(site: Site) -> str:
    return f"x-portkey-provider: openai\r\nx-portkey-custom-host: http://127.0.0.1:{site.upstreams[0]}/v1\r\n"


def _said_version(option: str) -> Callable[[str], str]:
    """Ask the program itself: the first number with dots in what it prints."""

    def version(program: str) -> str:
        said = subprocess.run([program, option], capture_output=True, text=True, check=False)
        found = re.search(r"\d+(\.\d+)+", said.stdout + said.stderr)
        return found[0] if found else ""

    return version


def _version_of_distribution(distribution: str) -> Callable[[str], str]:
    """Ask the interpreter in the script's first line: it need not be ours."""

    def version(program: str) -> str:
        python = Path(program).read_text(errors="replace").partition("\n")[0].removeprefix("#!").strip()
        asked = f"import importlib.metadata as m; print(m.version({distribution!r}))"
        return subprocess.run(
            [*shlex.split(python), "-c", asked], capture_output=True, text=True, check=False
        ).stdout.strip()

    return version


def _version_of_npm_package(program: str) -> str:
    package = Path(program).resolve().parents[1] / "package.json"
    return str(json.loads(package.read_text())["version"]) if package.is_file() else ""


NEIGHBOURS: Final = {
    neighbour.name: neighbour
    for neighbour in (
        Neighbour(
            name="nginx",
            program="nginx",
            package=Apt("nginx-light"),
            command=_start_nginx,
            version=_said_version("-v"),
            configured="one worker; answers are not buffered, connections to the upstream are kept, no access log; "
            "limits raised: 8 192 connections (512); for images, bodies of 64 MB (1 MB), 2 MB of it in memory",
        ),
        Neighbour(
            name="haproxy",
            program="haproxy",
            package=Apt("haproxy"),
            command=_start_haproxy,
            version=_said_version("-v"),
            configured="one thread; connections to the upstream are always reused; timeouts of 600 s",
        ),
        Neighbour(
            name="vllm-router",
            program="vllm-router",
            package=Venv("vllm-router"),
            command=_start_vllm_router,
            version=_version_of_distribution("vllm-router"),
            configured="policy round_robin, which costs least",
        ),
        Neighbour(
            name="sglang-router",
            program="sglang-router",
            package=Venv("sglang-router"),
            command=_start_sglang_router,
            version=_version_of_distribution("sglang-router"),
            configured="policy round_robin, which costs least",
        ),
        Neighbour(
            name="litellm",
            program="litellm",
            package=Venv("litellm[proxy]"),
            command=_start_litellm,
            version=_version_of_distribution("litellm"),
            configured="one model of the provider openai; no check of keys, no telemetry, no download of prices",
            environ={"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"},
        ),
        Neighbour(
            name="portkey",
            program="gateway",
            package=Npm("@portkey-ai/gateway"),
            command=_start_portkey,
            version=_version_of_npm_package,
            configured="the upstream is named by two headers of each request; no console. With Node.js 20, version "
            "1.15.2 answers streams with 500 (Portkey-AI/gateway issue 1389)",
            headers=_portkey_headers,
        ),
    )
}
"""By name, in the order of the tables."""

NAMES_IN_PROMISES: Final = ("nginx", "vllm-router")
"""With which promises compare Nexus."""
