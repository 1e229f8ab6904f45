"""``nexus-proxy health``: shows the health of a running proxy, also as the exit code."""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

import click

from nexus.cli.exit_codes import ExitCode, KeyRefused, NoProxy
from nexus.cli.output.printing import json_option, print_json
from nexus.cli.running_proxy.target import Target, client
from nexus.errors import StartError


@click.command("health")
@client
@json_option
def command(target: Target, *, as_json: bool) -> None:
    """Show the health of the running proxy; the exit code is 1 when it does not run or cannot serve."""
    proxy = target.proxy()
    try:
        version = proxy.introduce() if as_json else proxy.version()
        health = proxy.call("GET", "/health")
        ready = proxy.ask("GET", "/ready").document(proxy.url)
    except KeyRefused:
        raise
    except NoProxy as exc:
        # For health checks, a proxy that does not run is an unhealthy one.
        raise StartError(str(exc)) from exc
    if as_json:
        print_json({**health, "version": version, "url": proxy.url, **ready})
    else:
        backends, up = health["backends"], timedelta(seconds=health["uptime_seconds"])
        click.echo(f"{health['status']}: nexus-proxy {version} at {proxy.place}, up {up}")
        click.echo(f"{backends['healthy']} of {backends['total']} backends healthy, {health['models']} models")
        click.echo("ready" if ready["ready"] else f"not ready: {ready['reason']}")
        for fact in _problems(ready.get("detail", {})):
            click.echo(fact)
    raise click.exceptions.Exit(ExitCode.OK if ready["ready"] else ExitCode.FAILED)


def _problems(detail: Mapping[str, Any]) -> Iterator[str]:
    """Yield problems that do not keep requests from being served."""
    if reason := detail.get("rejected_reload"):
        yield f"the last reload was refused, and the configuration before it is in force: {reason}"
    if stages := detail.get("switched_off_stages"):
        yield f"stages left out for their failures, until the next reload: {', '.join(stages)}"
    if reason := detail.get("store_failure"):
        yield f"the store fails: {reason}"
