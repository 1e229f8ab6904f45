"""``python -m nexus.simulator`` runs one simulated server."""

import asyncio
import signal
from collections.abc import Callable
from typing import Any

import click
import msgspec

from nexus.simulator.dialects import DIALECTS
from nexus.simulator.faults import AnyFault
from nexus.simulator.server import Simulator
from nexus.simulator.settings import DEFAULT_CONTEXT_LENGTH, Settings, SimulatedModel


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=0, help="Port to listen on; 0: any free one.")
@click.option("--name", default="simulator", show_default=True, help="Every answer begins with it.")
@click.option("--kind", type=click.Choice(sorted(DIALECTS)), default="generic", show_default=True)
@click.option("--model", "models", multiple=True, default=("llama3",), show_default=True, help="May be repeated.")
@click.option("--context-length", default=DEFAULT_CONTEXT_LENGTH, show_default=True)
@click.option("--ttft", "ttft_s", default=0.0, help="Seconds to the first token.")
@click.option("--tokens-per-second", "tokens_per_s", default=0.0, help="0: as fast as possible.")
@click.option("--prefill-tokens-per-second", "prefill_tokens_per_s", default=0.0, help="Of prompts; 0: in no time.")
@click.option("--cache-tokens", default=0, show_default=True, help="Size of the cache of prompts; 0: none.")
@click.option("--answer-tokens", default=16, show_default=True, help="Length of an answer.")
@click.option("--concurrency", default=64, show_default=True, help="Requests that generate at once.")
@click.option("--load", "load_s", default=0.0, help="Seconds to load a model into memory.")
@click.option("--max-loaded", default=0, help="Models in memory at once; 0: all.")
@click.option("--queue-size", default=512, show_default=True, help="Further requests that may wait.")
@click.option("--hide-page", "hidden_pages", multiple=True, help="A page about its load that it lacks, as /metrics.")
@click.option("--api-key", default=None, help="Required from clients.")
@click.option("--fault", default=None, metavar="JSON", help='Played from the start, such as {"kind": "reset"}.')
def main(models: tuple[str, ...], context_length: int, fault: str | None, **options: Any) -> None:
    """Run a simulated inference server until SIGINT or SIGTERM."""
    served = tuple(SimulatedModel(name, context_length) for name in models)
    simulator = Simulator(Settings(models=served, **options))
    if fault is not None:
        simulator.faults.set(_fault(fault))
    with asyncio.Runner(loop_factory=_fastest_loop()) as runner:
        runner.run(_run(simulator))


def _fault(text: str) -> Any:
    try:
        return msgspec.json.decode(text, type=AnyFault)
    except msgspec.DecodeError as exc:
        raise click.BadParameter(str(exc), param_hint="--fault") from exc


def _fastest_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop's loop factory, which keeps the simulator faster than what is measured; None without uvloop."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


async def _run(simulator: Simulator) -> None:
    stopped = asyncio.Event()
    for signum in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(signum, stopped.set)
    async with simulator:
        click.echo(f"{simulator.name} ({simulator.settings.kind}) listens on {simulator.url}")
        await stopped.wait()


if __name__ == "__main__":
    main()
