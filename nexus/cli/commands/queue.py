"""``nexus-proxy queue``: shows how many requests wait in a running proxy."""

import click

from nexus.cli.output.printing import json_option, print_json
from nexus.cli.running_proxy.target import Target, client


@click.command("queue")
@client
@json_option
def command(target: Target, *, as_json: bool) -> None:
    """Show how many requests wait for a backend, and how the waits since the start have ended."""
    proxy = target.proxy()
    proxy.introduce()
    queue = proxy.call("GET", "/v1/stats")["queue"]
    if as_json:
        print_json({"queue": queue})
        return
    is_off = "" if queue["enabled"] else "; the queue is switched off"
    click.echo(f"{queue['depth']} requests wait, at most {queue['max_size']} may{is_off}")
    click.echo(
        f"since the start {queue['enqueued']} have waited: {queue['drained']} were sent to a backend,"
        f" {queue['timed_out']} timed out"
    )
