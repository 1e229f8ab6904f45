"""``nexus-proxy models``: which models the proxy that runs can route to, and who has each."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import click
import msgspec

from nexus.cli.columns import in_columns
from nexus.cli.target import Target, client

HEADINGS: Final = ("MODEL", "BACKENDS", "CONTEXT", "CAN")
CAPABILITIES: Final = ("vision", "tools", "json_mode", "embeddings")


class ModelRow(msgspec.Struct):
    """A model and who has it."""

    id: str
    backends: list[str]
    context_length: int | None
    """The longest of any backend."""
    capabilities: list[str]


@click.command("models")
@client
@click.option("-b", "--backend", help="Only those that this backend has.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(target: Target, *, backend: str | None, as_json: bool) -> None:
    """Show the models of the fleet as the proxy that runs knows them."""
    proxy = target.proxy(is_admin=True)
    proxy.introduce()
    told = proxy.tell("GET", "/admin/backends")
    rows = [row for row in _rows(told["backends"]) if backend is None or backend in row.backends]
    click.echo(msgspec.json.encode({"models": rows}).decode() if as_json else "\n".join(_lines(rows)))


def _rows(backends: Iterable[Mapping[str, Any]]) -> list[ModelRow]:
    rows: dict[str, ModelRow] = {}
    for backend in backends:
        for model in backend["models"]:
            row = rows.setdefault(model["name"], ModelRow(model["name"], [], None, []))
            row.backends.append(backend["name"])
            row.context_length = max(filter(None, (row.context_length, model["context_length"])), default=None)
            can = (word for word in CAPABILITIES if model[f"supports_{word}"] and word not in row.capabilities)
            row.capabilities += can
    return [rows[name] for name in sorted(rows)]


def _lines(rows: list[ModelRow]) -> Iterator[str]:
    cells = [
        (row.id, ", ".join(row.backends), str(row.context_length or ""), ", ".join(row.capabilities)) for row in rows
    ]
    yield in_columns([HEADINGS, *cells]) if rows else "no models"
