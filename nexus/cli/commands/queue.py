"""``nexus-proxy queue``: shows which requests wait in a running proxy, and for how long."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import click

from nexus.cli.output.columns import Layout
from nexus.cli.output.printing import json_option, print_json, table
from nexus.cli.running_proxy.target import Target, client

MODEL_HEADINGS: Final = ("MODEL", "REQUESTS", "OLDEST WAIT", "EXPECTED WAIT", "BACKENDS")
BACKEND_HEADINGS: Final = ("BACKEND", "REQUESTS", "PER SECOND")
CLIENT_HEADINGS: Final = ("CLIENT", "PRIORITY", "REQUESTS", "OLDEST WAIT")
MODEL_LAYOUT: Final = Layout(cut=(4, 0), leave_out=(4,))
CLIENT_LAYOUT: Final = Layout(cut=(0,))


@click.command("queue")
@client
@json_option
def command(target: Target, *, as_json: bool) -> None:
    """Show which requests wait for a backend, and how the waits since the start have ended."""
    proxy = target.proxy(is_admin=True)
    proxy.introduce()
    queue = proxy.call("GET", "/admin/queue")
    if as_json:
        print_json({"queue": queue})
        return
    for paragraph in paragraphs(queue):
        click.echo(paragraph)


def paragraphs(queue: Mapping[str, Any]) -> Iterator[str]:
    """Return what ``/admin/queue`` says, for people."""
    is_off = "" if queue["enabled"] else "; the queue is switched off"
    waiting = "1 request waits" if queue["depth"] == 1 else f"{queue['depth']} requests wait"
    yield f"{waiting}, at most {queue['max_size']} may{is_off}"
    if queue["depth"]:
        counts = ", ".join(f"{count} {priority}" for priority, count in queue["priorities"].items() if count)
        yield f"by priority: {counts}; the oldest has waited for {queue['oldest_wait_s']:.1f} s"
    if queue["models"]:
        rows = [
            (row["model"], str(row["requests"]), _s(row["oldest_wait_s"]), _s(row["expected_wait_s"]), _names(row))
            for row in queue["models"]
        ]
        yield "\n" + table([MODEL_HEADINGS, *rows], layout=MODEL_LAYOUT)
    if queue["backends"]:
        backends = [
            (row["backend"], str(row["requests"]), _rate(row["served_per_second"])) for row in queue["backends"]
        ]
        yield "\n" + table([BACKEND_HEADINGS, *backends])
    if queue["clients"]:
        clients = [
            (row["client"], row["priority"], str(row["requests"]), _s(row["oldest_wait_s"])) for row in queue["clients"]
        ]
        yield "\n" + table([CLIENT_HEADINGS, *clients], layout=CLIENT_LAYOUT)
    if queue["depth"]:
        yield ""
    yield (
        f"since the start {queue['enqueued']} have waited: {queue['drained']} were sent to a backend,"
        f" {queue['timed_out']} timed out, {queue['shed']} made room for others, {queue['left']} left;"
        f" {queue['refused']} found no room"
    )


def _s(seconds: float) -> str:
    return f"{seconds:.1f} s"


def _rate(per_second: float | None) -> str:
    return "" if per_second is None else f"{per_second:.3g}"


def _names(row: Mapping[str, Any]) -> str:
    return ", ".join(row["backends"])
