"""``nexus-proxy check``: says whether a start would succeed, without starting anything."""

from collections.abc import Iterator

import click

from nexus.app.blueprint import Blueprint, draw, load_plugins
from nexus.cli.check_report import Report, report
from nexus.cli.options import Chosen, configuration
from nexus.cli.output import json_option, print_json
from nexus.errors import ConfigError, NexusError


@click.command("check")
@configuration
@json_option
def command(chosen: Chosen, *, as_json: bool) -> None:
    """Check the configuration, its secrets, plugins and policies, and start nothing.

    Prints a summary, or the error and exits with 78.
    """
    try:
        loaded = chosen.load_quietly()
        blueprint = draw(loaded, load_plugins(loaded, chosen.plugin_files))
    except NexusError as exc:
        if as_json:
            print_json(Report(ok=False, error=str(exc)))
        # Whoever checks wants one answer, whoever is at fault.
        raise ConfigError(str(exc)) from exc
    if as_json:
        print_json(report(blueprint))
        return
    click.echo(f"{blueprint.file}: ok")
    for fact in _facts(blueprint):
        click.echo(f"  {fact}")


def _facts(blueprint: Blueprint) -> Iterator[str]:
    config = blueprint.config
    names = ", ".join(backend.name for backend in config.backends)
    yield f"listens on {config.server.host} port {config.server.port}"
    yield f"keys for clients: {len(blueprint.loaded.server_keys) or 'none'}"
    yield f"keys for administrators: {len(blueprint.loaded.admin_keys) or 'those for clients'}"
    yield f"backends: {names or 'none configured'}"
    yield f"stages: {', '.join(place.name for place in blueprint.places)}"
    yield f"traffic policies: {len(config.routing.policies) or 'none'}"
