"""``nexus-proxy serve``: runs the proxy until a signal stops it."""

import os

import click
import structlog

from nexus.app.process.binding import Listening
from nexus.app.process.state_file import StateFile
from nexus.app.serving import serve
from nexus.cli.arguments.options import Chosen, configuration
from nexus.observability.logging import logs

log = structlog.get_logger("nexus.cli")


@click.command("serve")
@configuration
def command(chosen: Chosen) -> None:
    """Serve until SIGTERM or SIGINT; SIGHUP reloads the configuration."""
    loaded = chosen.load()
    logs.configure(loaded.config.logging)
    try:
        for warning in loaded.warnings:
            log.warning("config_warning", reason=warning)
        serve(
            loaded,
            choice=chosen,
            state=StateFile(os.environ),
            on_port_moved=_warn_of_other_port,
        )
    finally:
        logs.shutdown()


def _warn_of_other_port(wanted: int, listening: Listening) -> None:
    """Warn on standard error, whatever the log level, that the proxy listens on another port than the default."""
    owner = "another program" if listening.moved_from is None else listening.moved_from.owner
    click.echo(
        f"nexus-proxy: warning: port {wanted} is in use by {owner}, so this listens on {listening.url};"
        " name a port with --port or server.port to get that one or an error",
        err=True,
    )
