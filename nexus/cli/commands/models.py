"""``nexus-proxy models``: shows the models that a running proxy can route to, and their backends."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import click
import msgspec

from nexus.cli.output.columns import Layout
from nexus.cli.output.printing import json_option, print_json, table
from nexus.cli.running_proxy.target import Target, client
from nexus.config.quoting import shown
from nexus.errors import NexusError, did_you_mean

HEADINGS: Final = ("MODEL", "BACKENDS", "IN MEMORY", "CONTEXT", "CAN")
LAYOUT: Final = Layout(cut=(0, 1, 2, 4), leave_out=(4, 3))
CAPABILITIES: Final = ("vision", "tools", "json_mode", "embeddings")


class ModelRow(msgspec.Struct):
    """A model and its backends."""

    id: str
    backends: list[str]
    in_memory: list[str]
    """The backends that are known to have it in memory."""
    context_length: int | None
    """The longest of any backend."""
    capabilities: list[str]


@click.command("models")
@client
@click.option("-b", "--backend", help="Only those that this backend has.")
@json_option
def command(target: Target, *, backend: str | None, as_json: bool) -> None:
    """Show the models of the running proxy's fleet, and which backends have them in memory."""
    proxy = target.proxy(is_admin=True)
    proxy.introduce()
    page = proxy.call("GET", "/admin/backends")
    _check_backend(backend, [row["name"] for row in page["backends"]])
    rows = [row for row in rows_of(page["backends"]) if backend is None or backend in row.backends]
    if as_json:
        print_json({"models": rows})
    else:
        click.echo(table([HEADINGS, *map(_cells, rows)], layout=LAYOUT) if rows else "no models")


def _check_backend(name: str | None, names: Sequence[str]) -> None:
    """Raise NexusError for an unknown backend, instead of an empty list."""
    if name is not None and name not in names:
        hint = did_you_mean(name, names, before="") or f"there are {', '.join(names) or 'none'}"
        raise NexusError(f"there is no backend '{shown(name)}'; {hint}")


def rows_of(backends: Iterable[Mapping[str, Any]]) -> list[ModelRow]:
    """Return a row for each model of *backends*, which are rows of ``/admin/backends``."""
    rows: dict[str, ModelRow] = {}
    for backend in backends:
        for model in backend["models"]:
            row = rows.setdefault(model["name"], ModelRow(model["name"], [], [], None, []))
            row.backends.append(backend["name"])
            if model.get("memory") == "in memory":
                row.in_memory.append(backend["name"])
            row.context_length = max(filter(None, (row.context_length, model["context_length"])), default=None)
            can = (word for word in CAPABILITIES if model[f"supports_{word}"] and word not in row.capabilities)
            row.capabilities += can
    return [rows[name] for name in sorted(rows)]


def _cells(row: ModelRow) -> tuple[str, ...]:
    backends, in_memory = ", ".join(row.backends), ", ".join(row.in_memory)
    return row.id, backends, in_memory, str(row.context_length or ""), ", ".join(row.capabilities)
