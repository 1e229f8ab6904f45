"""``nexus-proxy health``: how the proxy that runs is, in a line, and in the exit code."""

from datetime import timedelta

import click

from nexus.cli.exit_codes import ExitCode, KeyRefused, NoProxy
from nexus.cli.output import json_option, print_json
from nexus.cli.target import Target, client
from nexus.errors import StartError


@click.command("health")
@client
@json_option
def command(target: Target, *, as_json: bool) -> None:
    """Say how the proxy that runs is; the exit code is 1 when it is not there or cannot serve."""
    proxy = target.proxy()
    try:
        version = proxy.introduce() if as_json else proxy.version()
        health = proxy.tell("GET", "/health")
        ready = proxy.ask("GET", "/ready").document(proxy.url)
    except KeyRefused:
        raise
    except NoProxy as exc:
        # A proxy that is not there is not healthy: for health checks, that is one answer of two.
        raise StartError(str(exc)) from exc
    if as_json:
        print_json({**health, "version": version, "url": proxy.url, **ready})
    else:
        backends, up = health["backends"], timedelta(seconds=health["uptime_seconds"])
        click.echo(f"{health['status']}: nexus-proxy {version} at {proxy.place}, up {up}")
        click.echo(f"{backends['healthy']} of {backends['total']} backends healthy, {health['models']} models")
        click.echo("ready" if ready["ready"] else f"not ready: {ready['reason']}")
    raise click.exceptions.Exit(ExitCode.OK if ready["ready"] else ExitCode.FAILED)
