"""``nexus-proxy explain``: looks at the fleet once, and says what would be decided about a request and why."""

import asyncio
import time
import uuid

import click
import msgspec

from nexus.app.blueprint import Blueprint, draw, load_plugins
from nexus.cli.options import Chosen, configuration
from nexus.domain.fleet import FleetSnapshot
from nexus.domain.request import Requirements
from nexus.fleet.fleet import Fleet
from nexus.routing.explanation import as_text, explain
from nexus.routing.router import Request
from nexus.wire.protocols import ENDPOINTS


@click.command("explain")
@configuration
@click.option("-m", "--model", required=True, help="The model that the request asks for.")
@click.option(
    "--endpoint",
    type=click.Choice(sorted(ENDPOINTS)),
    default="/v1/chat/completions",
    show_default=True,
    help="Where the request is sent to.",
)
@click.option("--prompt-tokens", type=click.IntRange(0), default=0, help="How long the prompt is.")
@click.option("--max-tokens", type=click.IntRange(1), help="How long the answer may be.")
@click.option("--vision", "needs_vision", is_flag=True, help="The request holds an image.")
@click.option("--tools", "needs_tools", is_flag=True, help="The request offers tools.")
@click.option("--json-format", "needs_json", is_flag=True, help="The request wants a JSON answer.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(chosen: Chosen, *, endpoint: str, as_json: bool, **asked: object) -> None:
    """Show what each stage would say about a request, without sending it anywhere.

    The backends are probed once, as at a start.
    """
    loaded = chosen.load_quietly()
    blueprint = draw(loaded, load_plugins(loaded, chosen.plugin_files))
    request = Request(
        id=str(uuid.uuid4()),
        endpoint=ENDPOINTS[endpoint],
        requirements=msgspec.convert(asked, Requirements),
        headers={},
        received_unix_s=time.time(),  # noqa: TID251 - the instant that stages are told
    )
    explanation = explain(blueprint.router, request, asyncio.run(_look(blueprint)))
    click.echo(msgspec.json.encode(explanation).decode() if as_json else as_text(explanation))


async def _look(blueprint: Blueprint) -> FleetSnapshot:
    """Return the fleet as one round of probes finds it."""
    fleet = Fleet(blueprint.fleet, discoverers=[discoverer for _, discoverer in blueprint.contributions.discoverers()])
    await fleet.start()
    try:
        await fleet.wait_first_probes(blueprint.config.health_check.timeout_seconds)
        return fleet.snapshot
    finally:
        await fleet.stop()
