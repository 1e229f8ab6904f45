"""The process of a worker: ``python -m nexus.app.workers INDEX VERSION CHANNEL``, started by the parent only."""

import os
import signal
import socket
import sys
from contextlib import suppress
from itertools import chain

import msgspec

from nexus import __version__
from nexus.app.composition.blueprint import build_blueprint, load_plugins
from nexus.app.process import event_loop, interpreter, memory
from nexus.app.workers.messages import Failed, Orders
from nexus.app.workers.worker import Worker
from nexus.containment import interrupts_noted
from nexus.errors import NexusError, StartError
from nexus.observability.logging import logs
from nexus.workers.frames import encode, receive


def main() -> int:
    """Serve until the parent says to stop, or has ended; return the exit code."""
    # Signals of the terminal or of the service manager reach all processes; the parent tells what to do.
    for number in (signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    index, version, channel = int(sys.argv[1]), sys.argv[2], socket.socket(fileno=int(sys.argv[3]))
    try:
        with interrupts_noted():
            serve(index, version, channel)
    except EOFError:
        # The parent ended before it gave orders.
        return 1
    except NexusError as exc:
        # A worker that runs has told the parent itself, and closed the channel.
        with suppress(OSError):
            channel.sendall(encode("message", 0, "failed", Failed(type(exc).__name__, str(exc))))
        return 1
    finally:
        logs.shutdown()
    return 0


def serve(index: int, version: str, channel: socket.socket) -> None:
    """Serve until the parent says to stop.

    :param version: of the parent.
    :raises NexusError: this worker cannot serve, or another version was installed while the parent runs.
    """
    if version != __version__:
        raise StartError(f"Nexus {__version__} was installed while {version} runs; restart the proxy")
    orders = msgspec.msgpack.decode(receive(channel).payload, type=Orders)
    for number in (channel.fileno(), orders.log_lock, *orders.sockets, *chain(*orders.others.values())):
        # The parent has passed them on; a program that a plugin starts would keep the port open after the worker's end.
        os.set_inheritable(number, False)  # noqa: FBT003 - its only parameter
    logs.share(orders.log_lock, worker=index)
    interpreter.shorten_switch_interval()
    memory.bound_arenas()
    loaded = orders.configuration.load()
    logs.configure(loaded.config.logging)
    plugins = load_plugins(loaded, orders.configuration.paths_of_plugins())
    worker = Worker(orders, channel, build_blueprint(loaded, plugins))
    event_loop.run(worker.run(), plugins.plugins)


if __name__ == "__main__":
    sys.exit(main())
