"""``nexus-proxy demo``: runs the proxy with three simulated servers in one process."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

import aiohttp
import click
import msgspec

from nexus.app.composition.blueprint import build_blueprint, load_plugins
from nexus.app.process.state_file import StateFile
from nexus.app.running.nexus import Nexus
from nexus.config.loading import LoadedConfig
from nexus.config.schema import BackendConfig, Config, LoggingConfig, ServerConfig
from nexus.errors import StartError
from nexus.observability.logging import logs
from nexus.simulator import Simulator, demo_fleet

DEFAULT_PORT: Final = 8000
QUESTION: Final = "What does a proxy do?"


@click.command("demo")
@click.option("--ask", metavar="TEXT", help="Ask this, show the answer as it streams in, and end.")
@click.option("-p", "--port", type=click.IntRange(1, 65535), help="The port to listen on; else 8000 or one near it.")
def command(*, ask: str | None, port: int | None) -> None:
    """Run the proxy in front of three simulated servers, and say what to try."""
    # With --ask, log lines would interrupt the answer; without it, they show what each request does.
    logs.configure(LoggingConfig(level="warning" if ask else "info", format="pretty"))
    try:
        asyncio.run(_run(ask, port))
    finally:
        logs.shutdown()


async def _run(ask: str | None, port: int | None) -> None:
    async with _proxy(port) as nexus:
        base, model = f"http://127.0.0.1:{nexus.port}", nexus.fleet.snapshot.models[0]
        if ask:
            await _ask(base, model, ask)
        else:
            click.echo(_what_to_try(base, model, [backend.name for backend in nexus.fleet.snapshot.backends]))
            await _signalled()


@asynccontextmanager
async def _proxy(port: int | None) -> AsyncIterator[Nexus]:
    """Run three simulators, and a proxy with these as its only backends."""
    async with AsyncExitStack() as stack:
        simulators = [await stack.enter_async_context(simulator) for simulator in demo_fleet()]
        loaded = LoadedConfig(config=_config(simulators, port or DEFAULT_PORT))
        nexus = Nexus(build_blueprint(loaded, load_plugins(loaded)))
        await nexus.start(may_move_port=port is None)
        stack.push_async_callback(nexus.stop)
        state = StateFile(os.environ)
        stack.callback(state.remove)
        state.write(loaded, nexus.port)
        yield nexus


def _config(simulators: Iterable[Simulator], port: int) -> Config:
    backends = tuple(BackendConfig(name=s.settings.name, url=s.url, type=s.settings.kind) for s in simulators)
    return Config(server=ServerConfig(port=port), backends=backends)


async def _ask(base: str, model: str, text: str) -> None:
    """Print the answer to *text* as it streams in, and then the backend that gave it."""
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{base}/v1/chat/completions", json=_chat(model, text)) as answer,
    ):
        if not answer.ok:
            raise StartError(f"the demo was refused: {(await answer.read()).decode(errors='replace')}")
        async for line in answer.content:
            click.echo(_words(line), nl=False)
        click.echo(f"\n\nanswered by {answer.headers['X-Nexus-Backend']} as {model}")


def _words(line: bytes) -> str:
    """Return the content of one line of the stream."""
    if not line.startswith(b"data: {"):
        return ""
    choices = msgspec.json.decode(line[6:]).get("choices") or [{}]
    return choices[0].get("delta", {}).get("content") or ""


def _chat(model: str, text: str) -> dict[str, Any]:
    return {"model": model, "stream": True, "messages": [{"role": "user", "content": text}]}


def _what_to_try(base: str, model: str, names: Iterable[str]) -> str:
    body = msgspec.json.encode(_chat(model, QUESTION)).decode()
    return "\n".join(
        (
            f"Nexus listens on {base} before {', '.join(names)}. Ask it something:",
            "",
            f"  curl -N {base}/v1/chat/completions -H 'Content-Type: application/json' -d '{body}'",
            "",
            f"Look at {base}/ in a browser, {base}/v1/models, {base}/health and {base}/metrics. Ctrl-C ends it.",
        )
    )


async def _signalled() -> None:
    """Wait for SIGINT or SIGTERM."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()
