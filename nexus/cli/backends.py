"""``nexus-proxy backends``: how the backends of the proxy that runs are, and taking one out of service."""

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

import click

from nexus.cli.columns import Layout
from nexus.cli.output import json_option, print_json, table
from nexus.cli.placing import Section
from nexus.cli.target import Target, client
from nexus.domain.backend import Status

STATUSES: Final = tuple(status.value for status in Status)
HEADINGS: Final = (
    "NAME",
    "STATUS",
    "TYPE",
    "ZONE",
    "TIER",
    "IN FLIGHT",
    "OLDEST WAIT",
    "LATENCY",
    "MODELS",
    "URL",
    "LAST ERROR",
)
LAYOUT: Final = Layout(
    cut=tuple(map(HEADINGS.index, ("LAST ERROR", "URL", "NAME"))),
    leave_out=tuple(
        map(HEADINGS.index, ("TIER", "ZONE", "TYPE", "LATENCY", "MODELS", "URL", "OLDEST WAIT", "IN FLIGHT"))
    ),
)


@click.group("backends", cls=Section, invoke_without_command=True)
@client
@click.option("-s", "--status", type=click.Choice(STATUSES), help="Only those of this status.")
@json_option
def command(target: Target, *, status: str | None, as_json: bool) -> None:
    """Show the backends as the proxy that runs sees them."""
    if click.get_current_context().invoked_subcommand is not None:
        return
    proxy = target.proxy(is_admin=True)
    proxy.introduce()
    told = proxy.tell("GET", "/admin/backends")
    rows = [row for row in told["backends"] if status in (None, row["status"])]
    if as_json:
        print_json({"backends": rows})
    else:
        click.echo(table([HEADINGS, *map(_cells, rows)], layout=LAYOUT) if rows else "no backends")


@command.command("drain")
@click.argument("name")
@client
@json_option
def drain(target: Target, *, name: str, as_json: bool) -> None:
    """Give NAME no more requests; those that it has are finished."""
    _change(target, name, "drain", as_json=as_json)


@command.command("undrain")
@click.argument("name")
@client
@json_option
def undrain(target: Target, *, name: str, as_json: bool) -> None:
    """Let NAME serve again, once a probe has found it well."""
    _change(target, name, "undrain", as_json=as_json)


def _change(target: Target, name: str, action: str, *, as_json: bool) -> None:
    proxy = target.proxy(is_admin=True)
    proxy.introduce()
    now = proxy.tell("POST", f"/admin/backends/{quote(name, safe='')}/{action}")
    if as_json:
        print_json(now)
    else:
        click.echo(f"{now['name']} is {now['status']}, with {now['pending_requests']} requests under way")


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    latency = "" if row["avg_latency_ms"] is None else f"{row['avg_latency_ms']}ms"
    return (
        row["name"],
        _status(row),
        row["backend_type"],
        row["zone"],
        str(row["tier"]),
        f"{row['pending_requests']}/{row['max_in_flight']}",
        f"{row['oldest_unanswered_s']:.0f}s" if row["oldest_unanswered_s"] >= 1 else "",
        latency,
        str(len(row["models"])),
        row["url"],
        row["misconfigured"] or row["last_error"] or "",
    )


def _status(row: Mapping[str, Any]) -> str:
    if row["misconfigured"]:
        return f"{row['status']}, misconfigured"
    status = f"{row['status']}, busy" if row["is_busy"] else str(row["status"])
    return status if row["breaker"] == "closed" else f"{status}, breaker {row['breaker']}"
