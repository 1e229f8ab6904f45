"""One worker as the parent sees it: its process, the channel to it, and how far it has come."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

import nexus
from nexus import tasks
from nexus.app.workers.messages import Busy, Failed, Orders, Ready
from nexus.workers.channel import Channel, ChannelError, ChannelFull, NotAnswered

OF_THE_PARENT: Final = frozenset({"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"})
"""Variables for the main process of a service only; see sd_notify(3)."""

_WORDS: Final = {
    "optimize": "-O",
    "dont_write_bytecode": "-B",
    "isolated": "-I",
    "ignore_environment": "-E",
    "no_user_site": "-s",
    "safe_path": "-P",
    "bytes_warning": "-b",
}
"""By the name of the flag; its value is how often the word was given. Those of -i, -d, -q and -v are for people."""


class Child:
    """A worker's process; :meth:`launch` starts one.

    :param index: its number, from 1.
    """

    def __init__(self, index: int, process: asyncio.subprocess.Process, generation: int) -> None:
        self.index = index
        self.generation = generation
        """Of the configuration that it has in force."""
        self.has_begun = False
        """Whether its event loop runs; before, it only imports, and has nothing to lose."""
        self.is_ready = False
        self.is_leaving = False
        """Whether it was told to stop, or asked for it."""
        self.requests = 0.0
        """How many requests it has, on average over the last seconds."""
        self.failure: Failed | None = None
        """Why it could not start, if it said so."""
        self.has_settled = asyncio.Event()
        """Set when it is ready, and when that will never be."""
        self.is_gone = asyncio.Event()
        """Set when it serves no new requests: it ended, closed the channel, or wants to leave."""
        self.channel = Channel(f"worker {index}")
        self._process = process
        self._ready_at: float | None = None
        self._gone_at = 0.0
        self._waiting = tasks.start(self._wait(), name=f"worker {index}")

    @classmethod
    async def launch(
        cls, index: int, orders: Orders, *, on_channel: Callable[["Child"], None], files: Iterable[int]
    ) -> "Child":
        """Start the process of a worker and send it its *orders*.

        :param on_channel: called before anything is sent or received, to register topics.
        :param files: the descriptors that it inherits.
        :raises OSError: no process can be started.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                process = await asyncio.create_subprocess_exec(
                    *command_of(index, theirs.fileno()),
                    stdin=asyncio.subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(), *files),
                    env=_environment(os.environ),
                )
            except BaseException:
                ours.close()
                raise
        child = cls(index, process, orders.configuration.generation)
        channel = child.channel
        channel.on("failed", Failed, child._note_failed)
        channel.on("begun", type(None), child._note_begun)
        channel.on("ready", Ready, child._note_ready)
        channel.on("leave", type(None), child._note_leaving)
        channel.on("busy", Busy, child._note_busy)
        channel.on_closed(child._note_gone)
        on_channel(child)
        await channel.open(ours)
        child.tell("orders", orders)
        return child

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        return self._process.returncode is not None

    @property
    def has_served(self) -> bool:
        return self._ready_at is not None

    @property
    def served_s(self) -> float:
        """How long it has served, until it was gone; 0.0 if it never did."""
        return 0.0 if self._ready_at is None else max(self._gone_at - self._ready_at, 0.0)

    @property
    def ending(self) -> str:
        """Why it ended, for logs."""
        code = self._process.returncode
        if self.failure is not None:
            return self.failure.text
        if code is None:
            return "it has closed its channel" if self.is_gone.is_set() else "it runs"
        if code < 0:
            names = {each.value: each.name for each in signal.Signals}
            return f"killed by {names.get(-code, f'signal {-code}')}"
        return f"it ended with exit code {code}"

    def tell(self, topic: str, payload: object) -> None:
        """Send a message; nothing if it has ended or does not read, which is noticed in other ways."""
        try:
            self.channel.send(topic, payload)
        except ChannelError:
            return

    async def answers(self, timeout_s: float) -> bool:
        """Whether its event loop still runs: it answers within *timeout_s*, or has ended."""
        try:
            await self.channel.ask("ping", None, type(None), timeout_s=timeout_s)
        except (NotAnswered, ChannelFull):
            return False
        except ChannelError:
            return True
        return True

    def kill(self) -> None:
        """End its process at once."""
        if not self.has_ended:
            self._process.kill()

    async def ended(self, timeout_s: float | None = None) -> bool:
        """Wait until its process has ended, at most *timeout_s*; return whether it has."""
        await asyncio.wait({self._waiting}, timeout=timeout_s)
        return self.has_ended

    async def _wait(self) -> None:
        await self._process.wait()
        self._note_gone()
        self.channel.close()

    def _note_begun(self, _: None) -> None:
        self.has_begun = True

    def _note_ready(self, ready: Ready) -> None:
        self.generation = ready.generation
        self.is_ready = not self.is_gone.is_set()
        self._ready_at = asyncio.get_running_loop().time()
        self.has_settled.set()

    def _note_failed(self, failed: Failed) -> None:
        self.failure = failed

    def _note_leaving(self, _: None) -> None:
        self.is_leaving = True
        self._note_gone()

    def _note_busy(self, busy: Busy) -> None:
        self.requests = busy.requests

    def _note_gone(self) -> None:
        if not self.is_gone.is_set():
            self._gone_at = asyncio.get_running_loop().time()
        self.is_ready = False
        self.is_gone.set()
        self.has_settled.set()


def command_of(index: int, channel: int) -> tuple[str, ...]:
    """Return the command of the worker with that number; *channel* is a descriptor."""
    flags = interpreter_flags(sys.flags, sys.warnoptions, sys._xoptions)  # noqa: SLF001 - documented
    if "-P" not in flags and not _is_working_directory(Path(nexus.__file__).resolve().parent.parent):
        # Without it, Python would import from the working directory first, which need not be ours.
        flags = (*flags, "-P")
    return (sys.executable, *flags, "-m", "nexus.app.workers", str(index), nexus.__version__, str(channel))


def interpreter_flags(flags: object, warnings: Iterable[str], options: Mapping[str, str | bool]) -> tuple[str, ...]:
    """Return the words by which Python runs a further process as it runs this one.

    :param flags: as :data:`sys.flags`.
    :param warnings: as :data:`sys.warnoptions`: the values of ``-W``.
    :param options: as ``sys._xoptions``: the values of ``-X`` by name; True for those without a value.
    """
    words = [word for name, word in _WORDS.items() for _ in range(int(getattr(flags, name)))]
    words += [f"-W{each}" for each in warnings]
    for name, value in options.items():
        words += ("-X", name if value is True else f"{name}={value}")
    return tuple(words)


def _is_working_directory(folder: Path) -> bool:
    try:
        return folder == Path.cwd()
    except FileNotFoundError:
        # It was deleted since the start.
        return False


def _environment(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if name not in OF_THE_PARENT}
