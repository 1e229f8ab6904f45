"""``nexus-proxy backends``: shows and changes the backends of a running proxy."""

import sys
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import quote

import click

from nexus.cli.arguments.backend_keys import refuse_keys_of_a_backend, table_of
from nexus.cli.arguments.option_order import Section
from nexus.cli.commands.backend_tables import backend_table, file_lines, pending_table
from nexus.cli.output.printing import json_option, print_json
from nexus.cli.running_proxy.name_completion import NameOf
from nexus.cli.running_proxy.proxy import Proxy
from nexus.cli.running_proxy.target import Target, client
from nexus.domain.backend import Status

STATUSES: Final = tuple(status.value for status in Status)
WITHOUT_APPROVAL: Final = frozenset({"static", "local", "dns", "file", "hosts", "api"})
"""Sources of backends that need no approval and therefore cannot be rejected."""

MAX_NAMED: Final = 10
TAKING_OUT: Final = frozenset({"drain", "reject"})

_yes_option = click.option("-y", "--yes", is_flag=True, help="Ask no question, even for the last with a model.")
_status_option = click.option("-s", "--status", type=click.Choice(STATUSES), help="Only backends of this status.")


def _named(ctx: click.Context, param: click.Parameter, name: str) -> str:
    """Refuse an empty name, with which the path would be that of another page."""
    if not name.strip():
        raise click.BadParameter("expected the name of a backend, got an empty one", ctx, param)
    return name


@click.group("backends", cls=Section, invoke_without_command=True)
@client
@_status_option
@json_option
def command(target: Target, *, status: str | None, as_json: bool) -> None:
    """Show the backends of the running proxy, and the servers that wait for approval."""
    if click.get_current_context().invoked_subcommand is None:
        _show(target, status, as_json=as_json)


@command.command("list")
@client
@_status_option
@json_option
def list_(target: Target, *, status: str | None, as_json: bool) -> None:
    """Show the same as without a command."""
    _show(target, status, as_json=as_json)


@command.command("drain")
@click.argument("name", callback=_named, shell_complete=NameOf(lambda row: row["status"] != Status.DRAINING))
@client
@_yes_option
@json_option
def drain(target: Target, *, name: str, yes: bool, as_json: bool) -> None:
    """Send NAME no more requests; running ones are finished.

    If it is the last healthy backend with a model, this prints a warning, and asks you at a terminal.
    """
    _change(target, name, "drain", as_json=as_json, is_sure=yes)


@command.command("undrain")
@click.argument("name", callback=_named, shell_complete=NameOf(lambda row: row["status"] == Status.DRAINING))
@client
@json_option
def undrain(target: Target, *, name: str, as_json: bool) -> None:
    """Use NAME again, as soon as a probe finds it healthy."""
    _change(target, name, "undrain", as_json=as_json)


@command.command("approve")
@click.argument("name", callback=_named, shell_complete=NameOf(lambda _: False, pending=lambda _: True))
@client
@json_option
def approve(target: Target, *, name: str, as_json: bool) -> None:
    """Take the server NAME, which announced itself, into the fleet."""
    _change(target, name, "approve", as_json=as_json)


@command.command("reject")
@click.argument(
    "name",
    callback=_named,
    shell_complete=NameOf(
        lambda row: row["discovery_source"] not in WITHOUT_APPROVAL, pending=lambda row: row["trust"] == "pending"
    ),
)
@client
@_yes_option
@json_option
def reject(target: Target, *, name: str, yes: bool, as_json: bool) -> None:
    """Keep the server NAME, which announced itself, out of the fleet; running requests are finished."""
    _change(target, name, "reject", as_json=as_json, is_sure=yes)


@command.command("add")
@click.argument("name", callback=_named)
@click.argument("backend_url", metavar="URL")
@client
@click.option("--type", "kind", help="The kind of server; else it is detected.")
@click.option("--backend-key", metavar="REFERENCE", help="Its key: env:NAME or file:PATH, as the proxy sees them.")
@click.option("--zone", type=click.Choice(["restricted", "open"]), help="Its privacy zone; else that of its kind.")
@click.option(
    "--with",
    "keys",
    metavar="KEY=VALUE",
    multiple=True,
    help="Any other key of [[backends]], such as priority=10 or headers.X-Team=blue; may be repeated.",
)
@click.option("--persist", is_flag=True, help="Add it again at each start; else it stays until the proxy ends.")
@json_option
def add(  # noqa: PLR0913 - its options
    target: Target,
    *,
    name: str,
    backend_url: str,
    kind: str | None,
    backend_key: str | None,
    zone: str | None,
    keys: tuple[str, ...],
    persist: bool,
    as_json: bool,
) -> None:
    """Add the server at URL as the backend NAME, while the proxy runs."""
    given = {"name": name, "url": backend_url, "type": kind, "api_key": backend_key, "zone": zone}
    refuse_keys_of_a_backend(target.chosen.overrides)
    table = table_of(keys) | {key: value for key, value in given.items() if value is not None}
    proxy = target.proxy(is_admin=True)
    proxy.introduce()
    now = proxy.call("POST", "/admin/backends", {**table, "persist": persist})
    if as_json:
        print_json(now)
    else:
        lasts = "and will be at each start" if now["persist"] else "until the proxy ends; --persist keeps it"
        click.echo(f"{now['backend']['name']} is added, {lasts}")


@command.command("remove")
@click.argument(
    "name",
    callback=_named,
    shell_complete=NameOf(
        lambda row: row["discovery_source"] not in WITHOUT_APPROVAL or row["discovery_source"] == "api",
        pending=lambda row: row["trust"] == "pending",
    ),
)
@client
@_yes_option
@json_option
def remove(target: Target, *, name: str, yes: bool, as_json: bool) -> None:
    """Remove the backend NAME, which was added while the proxy runs, from the fleet.

    Running requests are finished. A server that announced itself is rejected.
    """
    proxy = target.proxy(is_admin=True)
    proxy.introduce()
    _confirm(proxy, name, "remove", is_sure=yes)
    now = proxy.call("DELETE", f"/admin/backends/{quote(name, safe='')}")
    if as_json:
        print_json(now)
    else:
        click.echo(f"{now['name']} is {now['outcome']}, with {now['pending_requests']} requests under way")


def _show(target: Target, status: str | None, *, as_json: bool) -> None:
    proxy = target.proxy(is_admin=True)
    proxy.introduce()
    page = proxy.call("GET", "/admin/backends")
    rows = [row for row in page["backends"] if status in (None, row["status"])]
    # A server that waits for approval has no status, so a filter excludes it.
    pending = [] if status is not None else page.get("pending", [])
    if as_json:
        print_json({"backends": rows, "pending": pending, "files": page.get("files", [])})
        return
    click.echo(backend_table(rows))
    if pending:
        click.echo(f"\n{pending_table(pending)}")
    if status is None and (files := page.get("files")):
        click.echo(f"\n{file_lines(files)}")


def _change(target: Target, name: str, action: str, *, as_json: bool, is_sure: bool = True) -> None:
    proxy = target.proxy(is_admin=True)
    proxy.introduce()
    if action in TAKING_OUT:
        _confirm(proxy, name, action, is_sure=is_sure)
    now = proxy.call("POST", f"/admin/backends/{quote(name, safe='')}/{action}")
    if as_json:
        print_json(now)
    else:
        click.echo(f"{_outcome(action, now)}{UNTIL_RESTART if now.get('until_restart') else ''}")


UNTIL_RESTART: Final = "; until the proxy ends, as its store keeps nothing: see [store] in the configuration"


def _outcome(action: str, now: Any) -> str:
    if action == "reject":
        return f"{now['name']} is rejected"
    if action == "approve" and now["status"] == "none":
        return f"{now['name']} is approved; a backend has its name or its address already"
    said = "approved and " if action == "approve" else ""
    if now["status"] == Status.UNKNOWN:
        return f"{now['name']} is {said}in the fleet, and gets requests once a probe has found it healthy"
    return f"{now['name']} is {said}{now['status']}, with {now['pending_requests']} requests under way"


def _confirm(proxy: Proxy, name: str, action: str, *, is_sure: bool) -> None:
    """Warn on standard error when *action* leaves a model without a healthy backend, and ask if there is a terminal.

    A script gets only the warning, and the models as ``last_with`` of the page.

    :raises click.exceptions.Abort: the answer was no.
    """
    page: Any = proxy.call("GET", "/admin/backends")
    # Older releases do not have this key.
    models = page.get("last_with", {}).get(name, ())
    if not models:
        return
    click.echo(f"{name} is the last healthy backend with {_listed(models)}", err=True)
    if not is_sure and sys.stdin.isatty() and sys.stderr.isatty():
        click.confirm(f"{action} {name}?", abort=True, err=True)


def _listed(models: Sequence[str]) -> str:
    more = len(models) - MAX_NAMED
    return ", ".join(models[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")
