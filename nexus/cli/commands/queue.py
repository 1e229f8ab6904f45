"""``nexus-proxy queue``: how many requests wait in the proxy that runs."""

import click

from nexus.cli.output.printing import json_option, print_json
from nexus.cli.running_proxy.target import Target, client


@click.command("queue")
@client
@json_option
def command(target: Target, *, as_json: bool) -> None:
    """Show how many requests wait for a backend, and what came of those that have waited since the start."""
    proxy = target.proxy()
    proxy.introduce()
    queue = proxy.tell("GET", "/v1/stats")["queue"]
    if as_json:
        print_json({"queue": queue})
        return
    is_off = "" if queue["enabled"] else "; the queue is switched off"
    click.echo(f"{queue['depth']} requests wait, at most {queue['max_size']} may{is_off}")
    click.echo(
        f"since the start {queue['enqueued']} have waited: {queue['drained']} were sent to a backend,"
        f" {queue['timed_out']} timed out"
    )
