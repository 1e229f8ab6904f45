"""``nexus-proxy decisions``: shows the recent routing decisions of a running proxy, and their reasons."""

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote, urlencode

import click
import msgspec

from nexus.admin.routing.decisions import DECISIONS, DECISIONS_PATH, DEFAULT_LIMIT
from nexus.cli.output.columns import Layout
from nexus.cli.output.printing import json_option, print_json, table
from nexus.cli.running_proxy.proxy import Proxy
from nexus.cli.running_proxy.target import Target, client
from nexus.domain.outcome import Result
from nexus.errors import NexusError
from nexus.routing.decision_record import MAX_RECORDS
from nexus.routing.explain.model import Explanation
from nexus.routing.explain.text import as_text

HEADINGS: Final = (
    "RECEIVED",
    "MODEL",
    "ENDPOINT",
    "DECISION",
    "BACKEND",
    "ROUNDS",
    "STATUS",
    "RESULT",
    "DURATION",
    "ID",
)
LAYOUT: Final = Layout(
    cut=tuple(map(HEADINGS.index, ("MODEL", "BACKEND"))),
    leave_out=tuple(map(HEADINGS.index, ("ROUNDS", "ENDPOINT", "RECEIVED", "DURATION", "RESULT"))),
)


@click.command("decisions")
@client
@click.option("--id", "request_id", metavar="ID", help="Details of one request: its id in the log or in this list.")
@click.option("-m", "--model", help="Only those for this model, as requested or as sent.")
@click.option("-b", "--backend", help="Only those that were sent to this backend.")
@click.option("-s", "--status", type=click.IntRange(100, 599), help="Only those that were answered with this status.")
@click.option("--decision", type=click.Choice(DECISIONS), help="Only those with this last decision.")
@click.option("--result", type=click.Choice([*map(str, Result)]), help="Only those with this result.")
@click.option("--client-request-id", metavar="ID", help="Only those with this X-Request-Id of the client.")
@click.option(
    "-n",
    "--limit",
    type=click.IntRange(1, MAX_RECORDS),
    default=DEFAULT_LIMIT,
    show_default=True,
    help="How many at most.",
)
@json_option
def command(target: Target, *, request_id: str | None, limit: int, as_json: bool, **filters: object) -> None:
    """Show what was decided about the last requests, newest first."""
    wanted = {name: value for name, value in filters.items() if value is not None}
    if request_id is not None and wanted:
        raise click.UsageError("--id shows one decision; leave out the filters")
    proxy = target.proxy(is_admin=True)
    proxy.introduce()
    if request_id is not None:
        _show_one(proxy, request_id, as_json=as_json)
        return
    page = proxy.call("GET", f"{DECISIONS_PATH}?{urlencode({**wanted, 'limit': limit})}")
    if as_json:
        print_json(page)
    else:
        rows = [*map(_cells, page["decisions"])]
        click.echo(table([HEADINGS, *rows], layout=LAYOUT) if rows else _none_of(page["kept"]))


def _none_of(kept: int) -> str:
    return f"none of the {kept} decisions that are kept" if kept else "no decision is kept yet"


def _show_one(proxy: Proxy, request_id: str, *, as_json: bool) -> None:
    page = proxy.call("GET", f"{DECISIONS_PATH}/{quote(request_id, safe='')}")
    if as_json:
        print_json(page)
        return
    try:
        explanation = msgspec.convert(page, Explanation)
    except msgspec.ValidationError as exc:
        raise NexusError(f"the proxy at {proxy.url} is of a release whose answer this one cannot read: {exc}") from exc
    click.echo(as_text(explanation))


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        row["received_at"],
        row["model"],
        row["endpoint"],
        row["decision"],
        row["backend"] or "",
        str(row["rounds"]),
        str(row["status"] or ""),
        row["result"] or "under way",
        "" if row["duration_ms"] is None else f"{row['duration_ms']:.0f}ms",
        row["id"],
    )
