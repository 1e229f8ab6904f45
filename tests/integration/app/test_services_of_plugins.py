"""Services of plugins run as long as the stages that they serve, across reloads too."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from nexus.app.composition.blueprint import build_blueprint, load_plugins
from nexus.app.running import nexus as running
from nexus.app.running.nexus import Nexus
from nexus.config.loading import load
from nexus.errors import NexusError, PluginError
from nexus.proxy.waiting.claim import Claim, Given, Unmet
from nexus.testing.ports import free_port

PLUGIN = '''
"""Counts the services that run."""

import asyncio
from contextlib import asynccontextmanager

from nexus.api import PluginConfig, hookimpl

running = []
wakes = []


class Config(PluginConfig):
    name: str = "first"
    breaks: bool = False
    breaks_at_the_end: bool = False
    hangs: bool = False
    ends_slowly: bool = False


@hookimpl
def nexus_config():
    return Config


@hookimpl
def nexus_services(config, store, wake):
    wakes.append(wake)

    @asynccontextmanager
    async def service():
        if config.breaks:
            raise OSError("no network")
        if config.hangs:
            await asyncio.sleep(60)
        running.append(config.name)
        try:
            yield
        finally:
            if config.ends_slowly:
                await asyncio.sleep(0.3)
                await store.put("counting/last", config.name.encode())
            running.remove(config.name)
            if config.breaks_at_the_end:
                raise OSError("disk full")

    return [service()]
'''

GROUPED = '''
"""Runs a task beside the proxy for as long as that runs."""

import asyncio
from contextlib import asynccontextmanager

from nexus.api import hookimpl


@hookimpl
def nexus_services(config, store):
    @asynccontextmanager
    async def service():
        async with asyncio.TaskGroup() as group:
            task = group.create_task(asyncio.sleep(60))
            yield
            task.cancel()

    return [service()]
'''


@pytest.fixture
async def start(tmp_path):
    file = tmp_path / "counting.py"
    file.write_text(PLUGIN)
    config = tmp_path / "nexus.toml"
    port = str(free_port())

    def blueprint(toml, plugins=None):
        config.write_text(f"[discovery]\nenabled = false\n{toml}")
        loaded = load(config, environ={}, overrides={"server.port": port})
        return build_blueprint(loaded, plugins or load_plugins(loaded, (file,)))

    @asynccontextmanager
    async def started(toml=""):
        nexus = Nexus(blueprint(toml))
        await nexus.start()
        try:
            yield nexus, lambda more: blueprint(more, nexus.blueprint.plugins)
        finally:
            await nexus.stop()

    return started


def services(nexus):
    (plugin,) = (plugin for plugin in nexus.blueprint.plugins.plugins if plugin.name == "counting")
    return plugin.hooks["nexus_services"][0].function.__globals__["running"]


async def test_a_service_runs_until_the_end(start):
    async with start() as (nexus, _):
        running = services(nexus)
        during = list(running)

    assert (during, running) == (["first"], [])


async def test_a_reload_replaces_the_services_with_those_of_the_new_configuration(start):
    async with start() as (nexus, blueprint):
        await nexus.reload(blueprint('[plugins.counting]\nname = "second"'))

        assert services(nexus) == ["second"]


async def test_a_service_that_does_not_start_keeps_the_old_configuration(start):
    async with start() as (nexus, blueprint):
        before = nexus.blueprint

        with pytest.raises(PluginError, match=r"counting.*its service does not start: OSError: no network"):
            await nexus.reload(blueprint("[plugins.counting]\nbreaks = true"))

        assert (before, ["first"]) == (nexus.blueprint, services(nexus))


async def test_a_service_that_hangs_at_its_start_keeps_the_old_configuration(start, monkeypatch):
    monkeypatch.setattr(running, "ENTER_S", 0.1)
    async with start() as (nexus, blueprint):
        with pytest.raises(PluginError, match=r"counting.*its service does not start: it is not ready after 0.1 s"):
            await nexus.reload(blueprint("[plugins.counting]\nhangs = true"))

        await nexus.reload(blueprint('[plugins.counting]\nname = "second"'))

        assert services(nexus) == ["second"]


async def test_replaced_services_stop_before_the_store_closes(start):
    with capture_logs() as lines:
        async with start("[plugins.counting]\nends_slowly = true") as (nexus, blueprint):
            reload = asyncio.ensure_future(nexus.reload(blueprint('[plugins.counting]\nname = "second"')))
            await asyncio.sleep(0.05)
        is_done = reload.done()
        await reload

    assert (is_done, services(nexus)) == (True, [])
    assert not [line for line in lines if line["log_level"] in ("warning", "error")]


async def test_no_service_is_started_once_it_stops(start):
    async with start() as (nexus, blueprint):
        late = blueprint('[plugins.counting]\nname = "second"')

    with pytest.raises(NexusError, match="shutting down"):
        await nexus.reload(late)
    assert services(nexus) == []


async def test_a_service_may_hold_a_task_group(start, tmp_path):
    grouped = tmp_path / "counting.py"
    grouped.write_text(GROUPED)
    with capture_logs() as lines:
        async with start() as (nexus, blueprint):
            await nexus.reload(blueprint(""))

    assert not [line for line in lines if line["log_level"] in ("warning", "error")]


async def test_a_service_that_fails_to_stop_is_logged_and_delays_nothing(start):
    with capture_logs() as lines:
        async with start("[plugins.counting]\nbreaks_at_the_end = true") as (nexus, blueprint):
            await nexus.reload(blueprint('[plugins.counting]\nname = "second"\nbreaks_at_the_end = true'))

    failures = [line for line in lines if line["event"] == "service_not_stopped"]
    assert [line["plugin"] for line in failures] == ["counting", "counting"]


async def test_a_service_can_let_requests_that_wait_try_again(start):
    async with start() as (nexus, _):
        (plugin,) = (plugin for plugin in nexus.blueprint.plugins.plugins if plugin.name == "counting")
        (wake,) = plugin.hooks["nexus_services"][0].function.__globals__["wakes"]
        freed = []

        unmet = Unmet(frozenset({"gpu-1"}), is_general=False)

        def try_now():
            return Given("a slot", "gpu-1") if freed else unmet

        waiting = asyncio.ensure_future(
            nexus.plane.queue.wait(Claim(client="one"), unmet, try_now, give_back=freed.append, left_s=2.0)
        )
        await asyncio.sleep(0)
        freed.append(True)
        wake()

        assert await waiting == "a slot"
