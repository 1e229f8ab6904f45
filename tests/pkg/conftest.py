"""Builds all distributions once, and installs the core into an empty venv."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import venv
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest

ROOT = Path(__file__).parents[2]
PLUGINS = sorted(path.parent.name for path in (ROOT / "plugins").glob("*/setup.cfg"))

START_S = 20.0


@pytest.fixture(scope="session")
def dist(tmp_path_factory):
    """The folder with the sdist and the wheel of each distribution."""
    folder = tmp_path_factory.mktemp("dist")
    sources = [tmp_path_factory.mktemp("source") / name for name in PLUGINS]
    for source in sources:
        original = ROOT / "plugins" / source.name
        shutil.copytree(original, source, ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
    with ThreadPoolExecutor(os.cpu_count()) as builds:
        # The wheel is built from the sdist, which shows files that the sdist lacks.
        built = [builds.submit(build, "--outdir", folder, ROOT)]
        # The core is built with setuptools from the index; once is enough.
        built += [builds.submit(build, "--no-isolation", "--outdir", folder, source) for source in sources]
    for each in built:
        each.result()
    return folder


def build(*words):
    """Run ``build``, and show its output if it fails."""
    ended = subprocess.run([sys.executable, "-m", "build", *words], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.fixture(scope="session")
def wheel(dist):
    """The wheel of the core."""
    (path,) = dist.glob("nexus_proxy-*-py3-none-any.whl")
    return path


class Environment:
    """A venv with the core alone."""

    def __init__(self, folder, dist):
        self.bin = folder / "bin"
        self._dist = dist

    def pip(self, *words):
        """Run pip, which finds the built distributions and nothing else."""
        command = [self.bin / "pip", words[0], "-q", *words[1:]]
        subprocess.run(command, check=True, env={"PIP_FIND_LINKS": str(self._dist), "PIP_NO_INDEX": "1"})

    def pip_from_index(self, *words):
        """Run pip with the index."""
        subprocess.run([self.bin / "pip", words[0], "-q", *words[1:]], check=True)

    def nexus_proxy(self, *words, cwd):
        """Run ``nexus-proxy`` to its end."""
        command = [self.bin / "nexus-proxy", *words]
        return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=60)

    @contextmanager
    def simulator(self, *words):
        """Run a simulated server, and yield its URL."""
        command = [self.bin / "python", "-m", "nexus.simulator", *words]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                yield process.stdout.readline().rsplit(None, 1)[1]
            finally:
                process.kill()

    @contextmanager
    def proxy(self, folder):
        """Run a proxy with the nexus.toml of *folder*, and yield its URL."""
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            port = sock.getsockname()[1]
        with subprocess.Popen([self.bin / "nexus-proxy", "--port", str(port)], cwd=folder) as process:
            try:
                wait_until_it_listens(process, port)
                yield f"http://127.0.0.1:{port}"
            finally:
                process.terminate()


def wait_until_it_listens(process, port):
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urlopen(f"http://127.0.0.1:{port}/health", timeout=1):
                return
        except URLError:
            time.sleep(0.05)
    raise AssertionError(f"nexus-proxy does not listen; it ended with {process.poll()}")


@pytest.fixture(scope="session")
def environment(wheel, dist, tmp_path_factory):
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, with_pip=True)
    subprocess.run([folder / "bin/pip", "install", "-q", wheel], check=True)
    return Environment(folder, dist)


@pytest.fixture(scope="session")
def answered_by():
    """Return a function that sends a chat request, and returns the backend that answered."""

    def ask(url, model="llama3"):
        body = json.dumps({"model": model, "messages": [{"role": "user", "content": "Hi"}]}).encode()
        request = Request(f"{url}/v1/chat/completions", body, {"Content-Type": "application/json"})
        with urlopen(request, timeout=20) as answer:
            return answer.headers["X-Nexus-Backend"]

    return ask
