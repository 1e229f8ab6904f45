"""``nexus-proxy pipeline``: the stages in their order, each with the reason for its place."""

import click

from nexus.app.blueprint import draw, load_plugins
from nexus.cli.columns import in_columns
from nexus.cli.options import Chosen, configuration
from nexus.routing.order import BUILT_IN, Place


@click.command("pipeline")
@configuration
def command(chosen: Chosen) -> None:
    """Show the stages in the order in which they run, and what put each there."""
    loaded = chosen.load_quietly()
    blueprint = draw(loaded, load_plugins(loaded, chosen.plugin_files))
    click.echo(in_columns([_row(place, blueprint.file) for place in blueprint.places]))


def _row(place: Place, file: str) -> tuple[str, ...]:
    on_error = "" if place.plugin == BUILT_IN else f"{place.on_error}s on error"
    notes = (
        f"moved from {place.declared_priority} ({file})" if place.is_overridden else "",
        f"observes only ({file})" if place.observes else "",
    )
    return f"{place.priority:>4} {place.name}", place.distribution, on_error, ", ".join(filter(None, notes))
