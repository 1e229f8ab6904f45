"""``nexus-proxy serve``: listens until it is told to stop."""

import os

import click
import structlog

from nexus.app.serving import serve
from nexus.app.state_file import StateFile
from nexus.cli.options import Chosen, configuration
from nexus.observability import logs

log = structlog.get_logger("nexus.cli")


@click.command("serve")
@configuration
def command(chosen: Chosen) -> None:
    """Serve until SIGTERM or SIGINT; SIGHUP loads the configuration anew."""
    loaded = chosen.load()
    logs.configure(loaded.config.logging)
    try:
        for warning in loaded.warnings:
            log.warning("config_warning", reason=warning)
        serve(loaded, plugin_files=chosen.plugin_files, reload=chosen.load, state=StateFile(os.environ))
    finally:
        logs.shutdown()
