"""``nexus-proxy backends``: how the backends of the proxy that runs are, and taking one out of service."""

from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote

import click
import msgspec

from nexus.cli.columns import in_columns
from nexus.cli.placing import Section
from nexus.cli.target import Target, client
from nexus.domain.backend import Status

STATUSES: Final = tuple(status.value for status in Status)
HEADINGS: Final = ("NAME", "STATUS", "TYPE", "ZONE", "TIER", "IN FLIGHT", "LATENCY", "MODELS", "URL", "LAST ERROR")


@click.group("backends", cls=Section, invoke_without_command=True)
@client
@click.option("-s", "--status", type=click.Choice(STATUSES), help="Only those of this status.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(target: Target, *, status: str | None, as_json: bool) -> None:
    """Show the backends as the proxy that runs sees them."""
    if click.get_current_context().invoked_subcommand is not None:
        return
    proxy = target.proxy(is_admin=True)
    proxy.introduce()
    told = proxy.tell("GET", "/admin/backends")
    rows = [row for row in told["backends"] if status in (None, row["status"])]
    click.echo(msgspec.json.encode({"backends": rows}).decode() if as_json else "\n".join(_lines(rows)))


@command.command("drain")
@click.argument("name")
@client
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def drain(target: Target, *, name: str, as_json: bool) -> None:
    """Give NAME no more requests; those that it has are finished."""
    _change(target, name, "drain", as_json=as_json)


@command.command("undrain")
@click.argument("name")
@client
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def undrain(target: Target, *, name: str, as_json: bool) -> None:
    """Let NAME serve again, once a probe has found it well."""
    _change(target, name, "undrain", as_json=as_json)


def _change(target: Target, name: str, action: str, *, as_json: bool) -> None:
    proxy = target.proxy(is_admin=True)
    proxy.introduce()
    now = proxy.tell("POST", f"/admin/backends/{quote(name, safe='')}/{action}")
    text = f"{now['name']} is {now['status']}, with {now['pending_requests']} requests under way"
    click.echo(msgspec.json.encode(now).decode() if as_json else text)


def _lines(rows: list[Mapping[str, Any]]) -> Iterator[str]:
    yield in_columns([HEADINGS, *map(_cells, rows)]) if rows else "no backends"


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    latency = "" if row["avg_latency_ms"] is None else f"{row['avg_latency_ms']}ms"
    return (
        row["name"],
        _status(row),
        row["backend_type"],
        row["zone"],
        str(row["tier"]),
        f"{row['pending_requests']}/{row['max_in_flight']}",
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
