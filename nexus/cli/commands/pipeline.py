"""``nexus-proxy pipeline``: shows the stages in their order, each with the reason for its place."""

from typing import Self

import click
import msgspec

from nexus.app.composition.blueprint import build_blueprint, load_plugins
from nexus.cli.arguments.options import Chosen, configuration
from nexus.cli.output.columns import Layout
from nexus.cli.output.printing import json_option, print_json, table
from nexus.routing.stage.order import BUILT_IN
from nexus.routing.stage.runner import Stage


@click.command("pipeline")
@configuration
@json_option
def command(chosen: Chosen, *, as_json: bool) -> None:
    """Show the stages in the order in which they run, and what put each there."""
    loaded = chosen.load_quietly()
    blueprint = build_blueprint(loaded, load_plugins(loaded, chosen.plugin_files))
    if as_json:
        print_json({"stages": [StageOfPipeline.of(stage) for stage in blueprint.router.pipeline.stages]})
    else:
        rows = [_row(stage, blueprint.file) for stage in blueprint.router.pipeline.stages]
        click.echo(table(rows, layout=Layout(cut=(3, 1))))


class StageOfPipeline(msgspec.Struct, frozen=True, kw_only=True):
    """A stage, and what put it in its place."""

    name: str
    plugin: str | None
    """None for a built-in stage."""
    distribution: str | None
    """The installed distribution; None for a built-in stage."""
    priority: int
    declared_priority: int
    """Differs from ``priority`` when the operator moved the stage."""
    on_error: str
    """``reject`` or ``skip``: what happens to a request when the stage fails."""
    observes_only: bool
    is_idle: bool
    """Whether nothing is configured for it to decide, so that it is called only for requests with hints."""

    @classmethod
    def of(cls, stage: Stage) -> Self:
        place = stage.place
        is_built_in = place.plugin == BUILT_IN
        return cls(
            name=place.name,
            plugin=None if is_built_in else place.plugin,
            distribution=None if is_built_in else place.distribution,
            priority=place.priority,
            declared_priority=place.declared_priority,
            on_error=place.on_error,
            observes_only=place.observes,
            is_idle=stage.is_idle,
        )


def _row(stage: Stage, file: str) -> tuple[str, ...]:
    place = stage.place
    on_error = "" if place.plugin == BUILT_IN else f"{place.on_error}s on error"
    notes = (
        f"moved from {place.declared_priority} ({file})" if place.is_overridden else "",
        f"observes only ({file})" if place.observes else "",
        "idle" if stage.is_idle else "",
    )
    return f"{place.priority:>4} {place.name}", place.distribution, on_error, ", ".join(filter(None, notes))
