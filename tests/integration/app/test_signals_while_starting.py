"""A signal during the start is obeyed like any other."""

import os
import signal
import subprocess
import sys

import pytest

from nexus.testing.ports import free_port
from nexus.testing.waiting import until

PLUGIN = '''
"""Takes its time before it serves."""

import asyncio
from contextlib import asynccontextmanager
from pathlib import Path

from nexus.api import PluginConfig, hookimpl


class Config(PluginConfig):
    start_s: float = 0.0


@hookimpl
def nexus_config():
    return Config


@hookimpl
def nexus_services(config, store):
    @asynccontextmanager
    async def service():
        Path("begun").touch()
        await asyncio.sleep(config.start_s)
        yield

    return [service()]
'''


@pytest.fixture
def begin(tmp_path):
    """Start ``nexus-proxy`` with a plugin whose service takes *start_s* to start."""
    (tmp_path / "slow.py").write_text(PLUGIN)
    begun = []

    def call(start_s):
        _configure(tmp_path, start_s)
        words = ("--plugin", "slow.py", "--no-discovery", "--port", str(free_port()))
        with (tmp_path / "log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "nexus", *words],
                cwd=tmp_path,
                env={**os.environ, "NEXUS_LOG_FORMAT": "json"},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        begun.append(process)
        return process

    yield call
    for process in begun:
        process.kill()
        process.wait()


def _configure(folder, start_s):
    (folder / "nexus.toml").write_text(f"[plugins.slow]\nstart_s = {start_s}\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_stop_interrupts_the_start(begin, tmp_path, number):
    process = begin(start_s=60)
    until((tmp_path / "begun").exists)

    process.send_signal(number)

    assert process.wait(5) == 0
    log = (tmp_path / "log").read_text()
    assert '"stopped"' in log
    assert '"started"' not in log
    assert "Traceback" not in log


def test_a_reload_waits_until_all_is_started(begin, tmp_path):
    process = begin(start_s=1)
    until((tmp_path / "begun").exists)

    _configure(tmp_path, 0)
    process.send_signal(signal.SIGHUP)
    until(lambda: '"config_reloaded"' in (tmp_path / "log").read_text())
    process.send_signal(signal.SIGTERM)

    assert process.wait(5) == 0
    log = (tmp_path / "log").read_text()
    assert log.index('"started"') < log.index('"config_reloaded"')
    assert "Traceback" not in log
