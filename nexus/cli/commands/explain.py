"""``nexus-proxy explain``: shows how a request would be routed and why, without sending it."""

import asyncio
import time
import uuid
from collections.abc import Mapping
from typing import BinaryIO, Final

import click
import msgspec

from nexus.app.composition.blueprint import Blueprint, build_blueprint, load_plugins
from nexus.app.composition.guards import guarded_discoverers
from nexus.app.composition.loading import load_backend_here
from nexus.cli.arguments.options import Chosen
from nexus.cli.exit_codes import KeyRefused, NoProxy
from nexus.cli.output.printing import json_option, print_json
from nexus.cli.running_proxy.explaining import CannotExplain, Question, ask
from nexus.cli.running_proxy.target import Target, client
from nexus.domain.fleet import FleetSnapshot
from nexus.domain.request import Requirements
from nexus.errors import RequestError
from nexus.fleet.fleet import Fleet
from nexus.proxy.exchange.dry_run import explained
from nexus.proxy.headers.from_client import HINTS
from nexus.routing.decision_record import Request
from nexus.routing.explain.model import Explanation
from nexus.routing.explain.text import as_text
from nexus.wire.composing import JSON, SampleRequest, compose, form_type, with_model
from nexus.wire.protocols import ENDPOINTS, PROTOCOLS
from nexus.wire.requests import multipart

CHAT: Final = "/v1/chat/completions"


@click.command("explain")
@client
@click.option("-m", "--model", help="The model that the request asks for; in place of the one that --file names.")
@click.option(
    "--file", type=click.File("rb"), metavar="FILE", help="The body that the request would have; - is standard input."
)
@click.option(
    "--endpoint", type=click.Choice(sorted(ENDPOINTS)), default=CHAT, show_default=True, help="The path of the request."
)
@click.option(
    "--header",
    "headers",
    metavar="'NAME: VALUE'",
    multiple=True,
    help="A hint that it carries, such as 'X-Nexus-Privacy: restricted'; may be repeated.",
)
@click.option("--prompt-tokens", type=click.IntRange(0), help="The length of the prompt.")
@click.option("--max-tokens", type=click.IntRange(1), help="How long the answer may be.")
@click.option("--vision", "needs_vision", is_flag=True, help="The request has an image.")
@click.option("--tools", "needs_tools", is_flag=True, help="The request offers tools.")
@click.option("--json-format", "needs_json", is_flag=True, help="The request wants a JSON answer.")
@click.option("--offline", is_flag=True, help="Ask no running proxy; probe the backends from here.")
@json_option
def command(  # noqa: PLR0913 - its options
    target: Target,
    *,
    model: str | None,
    file: BinaryIO | None,
    endpoint: str,
    headers: tuple[str, ...],
    offline: bool,
    as_json: bool,
    **said: object,
) -> None:
    """Show what each stage would decide about a request, which backend would be tried, and why the others would not.

    A running proxy with this configuration answers, because it knows the present load of its backends. When there is
    none, or when options such as --plugin or --set change the configuration, the backends are probed once, as at a
    start. The output says which of the two it was.
    """
    wanted = {name: value for name, value in said.items() if value not in (None, False)}
    question = _question(model, file, endpoint, _hints(headers), wanted)
    explanation, source = _explanation(target, question, target.why_offline(is_requested=offline))
    # The JSON has its source as a member.
    click.echo(source, err=as_json)
    if as_json:
        print_json(explanation)
    else:
        click.echo(as_text(explanation))


def _question(
    model: str | None, file: BinaryIO | None, path: str, hints: Mapping[str, str], said: Mapping[str, object]
) -> Question:
    endpoint = ENDPOINTS[path]
    if file is not None:
        if said:
            raise click.UsageError("--file says what the request asks for; only --model may be given too")
        body = file.read()
        content_type = form_type(body) if endpoint.body == "multipart" else JSON
        body = body if model is None else with_model(endpoint, content_type, body, model)
    elif model is None:
        raise click.UsageError("Missing option '-m' / '--model', or '--file' with a body that names one.")
    else:
        content_type, body = compose(endpoint, msgspec.convert({"model": model, **said}, SampleRequest))
    return Question(endpoint=endpoint, content_type=content_type, body=body, hints=hints)


def _hints(headers: tuple[str, ...]) -> dict[str, str]:
    known = {hint.decode() for hint in HINTS}
    hints: dict[str, str] = {}
    for header in headers:
        name, colon, value = header.partition(":")
        if not colon or name.strip().lower() not in known or not value.isascii() or not value.isprintable():
            raise click.BadParameter(
                f"'{header}' is no hint; write 'NAME: VALUE' with one of {', '.join(sorted(known))}",
                param_hint="--header",
            )
        hints[name.strip().lower()] = value.strip()
    return hints


def _explanation(target: Target, question: Question, why_offline: str) -> tuple[Explanation, str]:
    """Return the explanation, and a sentence that names its source."""
    if not why_offline:
        try:
            proxy = target.proxy()
            return ask(proxy, question), f"asked the proxy that runs at {proxy.place}"
        except KeyRefused:
            # A proxy runs, and its decision may differ from that of this command.
            raise
        except (NoProxy, CannotExplain) as exc:
            # A proxy that the command line names must answer; at a configured address, there may be none.
            if target.is_named:
                raise
            why_offline = str(exc)
    return _explained_here(target.chosen, question), f"this command looked at the fleet itself: {why_offline}"


def _explained_here(chosen: Chosen, question: Question) -> Explanation:
    loaded = chosen.load_quietly()
    blueprint = build_blueprint(loaded, load_plugins(loaded, chosen.plugin_files))
    request = Request(
        id=str(uuid.uuid4()),
        endpoint=question.endpoint,
        requirements=_requirements(question),
        headers=question.hints,
        received_unix_s=time.time(),  # noqa: TID251 - the instant that stages are told
    )
    return asyncio.run(_explained_from_probes(blueprint, request, question.body))


async def _explained_from_probes(blueprint: Blueprint, request: Request, body: bytes) -> Explanation:
    return await explained(blueprint.router, request, body, await _probed_fleet(blueprint), source="probes")


def _requirements(question: Question) -> Requirements:
    endpoint, body = question.endpoint, question.body
    try:
        if endpoint.body == "multipart":
            return multipart.understand(endpoint, body, question.content_type)
        return PROTOCOLS[endpoint.protocol].understand(endpoint, body)
    except RequestError as exc:
        raise RequestError(exc.code, f"such a request is refused: {exc.status} {exc.code}: {exc.message}") from exc


async def _probed_fleet(blueprint: Blueprint) -> FleetSnapshot:
    """Return the fleet after one round of probes."""
    discoverers = guarded_discoverers(blueprint.contributions)
    fleet = Fleet(blueprint.fleet, discoverers=discoverers, load=load_backend_here)
    await fleet.start()
    try:
        await fleet.wait_first_probes(blueprint.config.health_check.timeout_seconds)
        return fleet.snapshot
    finally:
        await fleet.stop()
