"""``nexus-proxy config``: writes an example file, and shows the configuration in force."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from nexus.admin.configuration import CONFIG_PATH, configuration
from nexus.cli.arguments.option_order import Section
from nexus.cli.exit_codes import NoProxy
from nexus.cli.output.columns import in_columns
from nexus.cli.output.printing import json_option, print_json
from nexus.cli.running_proxy.target import Target, client
from nexus.config.documents import reference
from nexus.config.loading import DEFAULT_FILE
from nexus.errors import StartError

_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")


@click.group("config", cls=Section)
def command() -> None:
    """Write an example configuration, or show the one in force."""


@command.command("init")
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    type=click.Path(path_type=Path, allow_dash=True),
    default=DEFAULT_FILE,
    show_default=True,
    help="Where to write it; - is standard output.",
)
@click.option("-f", "--force", is_flag=True, help="Replace the file if it exists.")
def init(output: Path, *, force: bool) -> None:
    """Write an example configuration: every key with its meaning and default, commented out."""
    if str(output) == "-":
        click.echo(reference.example(), nl=False)
        return
    try:
        with output.open("w" if force else "x", encoding="utf-8") as file:
            file.write(reference.example())
    except FileExistsError:
        raise StartError(f"{output} exists already; --force replaces it") from None
    except OSError as exc:
        raise StartError(f"{output} cannot be written: {exc.strerror}") from exc
    click.echo(f"{output} written; `nexus-proxy check` says whether it is valid")


@command.command("show")
@client
@click.option("--offline", is_flag=True, help="Ask no running proxy; show what a start here would use.")
@json_option
def show(target: Target, *, offline: bool, as_json: bool) -> None:
    """Show every key in force, each with what set it; secrets are hidden, references are not.

    A running proxy answers, because it knows its options and its discovered and added backends. If there is none, this
    shows the configuration that a start in this folder would use.
    """
    page = _settings(target, target.why_offline(is_requested=offline))
    if as_json:
        print_json(page)
    else:
        click.echo("\n".join(_lines(page)))


def _settings(target: Target, why_offline: str) -> Any:
    if not why_offline:
        try:
            proxy = target.proxy(is_admin=True)
            proxy.introduce()
            return proxy.call("GET", CONFIG_PATH)
        except NoProxy as exc:
            # A proxy that the command line names must run; at a configured address, there may be none.
            if target.is_named:
                raise
            why_offline = str(exc)
    click.echo(f"this command read the configuration itself: {why_offline}", err=True)
    return msgspec.to_builtins(configuration(target.chosen.load_quietly()))


def _lines(page: Mapping[str, Any]) -> Iterator[str]:
    tables: dict[str, list[tuple[str, str]]] = {}
    for row in page["settings"]:
        section, _, key = row["key"].partition(".")
        # TOML has no null: a key without a value is left out.
        value = "(unset)" if row["value"] is None else _toml(row["value"])
        tables.setdefault(section, []).append((f"{key} = {value}", f"# {row['origin']}"))
    for section, rows in tables.items():
        yield f"[{section}]"
        yield in_columns(rows)
        yield ""
    for dropped in page.get("dropped", ()):
        name, url, other = (in_columns([(dropped[key],)]) for key in ("name", "url", "taken_by"))
        yield f"# not in force: {name} at {url} was added (api); the file's {other} has its name or its address"
        yield ""
    for backend in page["backends"]:
        yield in_columns([("[[backends]]", f"# {backend['origin']}")])
        yield from (in_columns([(f"{_key(key)} = {_toml(value)}",)]) for key, value in backend["keys"].items())
        yield ""


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_key(key)} = {_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value, ensure_ascii=False)


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else json.dumps(name, ensure_ascii=False)
