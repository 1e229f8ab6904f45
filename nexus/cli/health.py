"""``nexus-proxy health``: how the proxy that runs is, in a line, and in the exit code."""

import sys
from datetime import timedelta

import click
import msgspec

from nexus.cli.options import Chosen, configuration
from nexus.cli.reaching import Proxy, reachable


@click.command("health")
@configuration
@reachable
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(chosen: Chosen, *, url: str | None, api_key: str | None, as_json: bool) -> None:
    """Say how the proxy that runs is; the exit code is 1 when it is not there or cannot serve."""
    proxy = Proxy.of(chosen.load_quietly(), url, api_key)
    version = proxy.version()
    health = proxy.tell("GET", "/health")
    ready = msgspec.json.decode(proxy.ask("GET", "/ready").body)
    if as_json:
        click.echo(msgspec.json.encode({**health, "version": version, **ready}).decode())
    else:
        backends, up = health["backends"], timedelta(seconds=health["uptime_seconds"])
        click.echo(f"{health['status']}: nexus-proxy {version} at {proxy.url}, up {up}")
        click.echo(f"{backends['healthy']} of {backends['total']} backends healthy, {health['models']} models")
        click.echo("ready" if ready["ready"] else f"not ready: {ready['reason']}")
    sys.exit(0 if ready["ready"] else 1)
