"""Runs a proxy for a test, in a thread or on the event loop of the test."""

import asyncio
import tempfile
import threading
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from nexus.app.composition.blueprint import build_blueprint, load_plugins
from nexus.app.running.nexus import Nexus
from nexus.config.loading import load
from nexus.simulator import Simulator
from nexus.testing.client import Reply, ask, chat
from nexus.testing.fleets import table_of
from nexus.testing.ports import free_port


class FakeBackend(NamedTuple):
    """A simulated inference server, and its configuration in the proxy."""

    simulator: Simulator
    keys: Mapping[str, str | int]

    @property
    def name(self) -> str:
        return self.simulator.name

    @property
    def table(self) -> str:
        """Its ``[[backends]]`` table."""
        return table_of(self.simulator, **self.keys)

    @property
    def prompts(self) -> tuple[str, ...]:
        """The bodies of the requests that it received, as text, oldest first; requests without a body are left out."""
        return tuple(record.body.decode(errors="replace") for record in self.simulator.requests if record.body)


class Answer(NamedTuple):
    """The response to a chat request."""

    reply: Reply

    @property
    def status(self) -> int:
        return self.reply.status

    @property
    def text(self) -> str:
        """The text that the model generated."""
        return str(self.reply.json()["choices"][0]["message"]["content"])

    @property
    def code(self) -> str | None:
        """The error code; None if the response is not an error."""
        error = self.reply.json().get("error")
        return None if error is None else str(error["code"])

    @property
    def backend(self) -> str | None:
        """The name of the backend that answered; None if none did."""
        name = self.reply.headers["X-Nexus-Backend"]
        return None if name == "none" else name

    @property
    def reasons(self) -> dict[str, str]:
        """The last rejection reason of each backend, by name."""
        reasons = self.reply.json().get("context", {}).get("rejection_reasons", ())
        return {reason["agent_id"]: reason["reason"] for reason in reasons}


class RunningNexus:
    """A proxy that listens on the loopback."""

    def __init__(self, nexus: Nexus) -> None:
        self.nexus = nexus
        self.url = f"http://127.0.0.1:{nexus.port}"

    def chat(
        self, model: str = "llama3", text: str = "hello there", *, headers: Mapping[str, str] | None = None, **more: Any
    ) -> Answer:
        """Send a chat request that is not streamed.

        :param more: further members of the body.
        """
        return Answer(self.ask("/v1/chat/completions", chat(model, text, **more), headers=headers))

    def ask(
        self, path: str, body: bytes | Mapping[str, Any] | None = None, *, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """Send any request, by default GET without a body and POST with one."""
        return ask(self.url, path, body, headers=headers)

    def metrics(self) -> str:
        """Return the metrics page."""
        return self.ask("/metrics").body.decode()


@contextmanager
def nexus_in_thread(
    backends: Iterable[FakeBackend] = (), config: str = "", plugin_files: tuple[Path, ...] = ()
) -> Iterator[RunningNexus]:
    """Run a proxy in front of *backends* in a thread.

    :param config: TOML, in addition to the backends.
    :param plugin_files: as for ``--plugin``.
    """
    text = config + "".join(backend.table for backend in backends)
    started: Future[tuple[Nexus, asyncio.AbstractEventLoop, asyncio.Event]] = Future()
    thread = threading.Thread(target=_serve, args=(text, plugin_files, started), name="nexus", daemon=True)
    thread.start()
    nexus, loop, stopping = started.result()
    try:
        yield RunningNexus(nexus)
    finally:
        loop.call_soon_threadsafe(stopping.set)
        thread.join()


def _serve(text: str, plugin_files: tuple[Path, ...], started: "Future[Any]") -> None:
    async def serve() -> None:
        stopping = asyncio.Event()
        async with nexus_in_loop(text, plugin_files) as nexus:
            started.set_result((nexus, asyncio.get_running_loop(), stopping))
            await stopping.wait()

    try:
        asyncio.run(serve())
    except BaseException as exc:
        if started.done():
            raise
        started.set_exception(exc)


@asynccontextmanager
async def nexus_in_loop(config: str, plugin_files: tuple[Path, ...] = ()) -> AsyncIterator[Nexus]:
    """Run a proxy on the running event loop, on a free port.

    :param config: TOML.
    :param plugin_files: as for ``--plugin``.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "nexus.toml"
        file.write_text(config)
        loaded = load(file, environ={}, overrides={"server.port": str(free_port())})
        nexus = Nexus(build_blueprint(loaded, load_plugins(loaded, plugin_files)))
        await nexus.start()
        try:
            yield nexus
        finally:
            await nexus.stop(drain_s=0.0)
