"""``nexus-proxy config``: writes a file in which every key is explained, and shows what is in force."""

from pathlib import Path

import click

from nexus.cli.arguments.option_order import Section
from nexus.cli.commands import config_show
from nexus.config.documents import reference
from nexus.config.loading import DEFAULT_FILE
from nexus.errors import StartError


@click.group("config", cls=Section)
def command() -> None:
    """Work on the configuration file."""


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


command.add_command(config_show.command)
