"""A plugin whose background work does not start or end keeps neither the end nor a later reload from happening."""

import signal

import pytest

from nexus.testing.client import ask, chat
from nexus.testing.fleets import table_of
from nexus.testing.waiting import until

PLUGIN = '''
"""Hangs where its table says."""

import asyncio
from contextlib import asynccontextmanager
from pathlib import Path

from nexus.api import PluginConfig, hookimpl


class Config(PluginConfig):
    hangs: str = ""


@hookimpl
def nexus_config():
    return Config


async def hang():
    Path("hanging").touch()
    await asyncio.sleep(3600)


async def hang_for_good():
    while True:
        try:
            await hang()
        except asyncio.CancelledError:
            pass


@hookimpl
def nexus_services(config, store):
    @asynccontextmanager
    async def service():
        if config.hangs == "entered":
            await hang()
        yield
        if config.hangs == "left":
            await hang()
        if config.hangs == "left for good":
            await hang_for_good()

    return [service()]
'''

LEFT_S = 5.0
"""How long a service may take to be left."""


@pytest.fixture
def start(simulate, start_nexus, tmp_path):
    """Start ``nexus-proxy`` with a plugin that hangs as told, and return it with how to reload it otherwise."""
    (tmp_path / "stuck.py").write_text(PLUGIN)
    backend = table_of(simulate())

    def config(hangs):
        return f'[plugins.stuck]\nhangs = "{hangs}"\n{backend}'

    def call(hangs):
        nexus = start_nexus(config(hangs), arguments=("--plugin", str(tmp_path / "stuck.py")))

        def reload(hangs):
            nexus.config_file.write_text(config(hangs))
            nexus.send(signal.SIGHUP)

        return nexus, reload

    return call


def named(nexus):
    return {(line["plugin"], line["distribution"]) for line in nexus.log_lines("service_not_stopped")}


@pytest.mark.parametrize("hangs", ["left", "left for good"])
def test_a_service_that_does_not_end_is_named_and_does_not_hold_the_process(start, hangs):
    nexus, _ = start(hangs)

    assert nexus.stop(LEFT_S + 5) == 0

    assert {plugin for plugin, _ in named(nexus)} == {"stuck"}
    assert nexus.log_lines("stopped")
    assert "Traceback" not in nexus.log_text()


def test_a_reload_asked_for_while_another_hangs_follows_it(start):
    nexus, reload = start("left")

    reload("")
    nexus.wait_for_log("config_reloaded", 1)
    reload("")
    # A signal that comes while another of its kind is not delivered yet is one with it.
    nexus.wait_for_log("reload_waiting", 1)
    reload("")
    nexus.wait_for_log("reload_waiting", 2)
    nexus.wait_for_log("config_reloaded", 2, within_s=LEFT_S + 3)

    assert nexus.stop() == 0
    assert len(nexus.log_lines("config_reloaded")) == 2
    assert len(named(nexus)) == 1


def test_a_stop_does_not_wait_for_a_service_that_a_reload_starts(start, tmp_path):
    nexus, reload = start("")

    reload("entered")
    until((tmp_path / "hanging").exists)
    answer = ask(nexus.url, "/v1/chat/completions", chat())

    assert (answer.status, nexus.stop(4)) == (200, 0)
    assert nexus.log_lines("reload_ignored")
    assert not nexus.log_lines("config_rejected")
