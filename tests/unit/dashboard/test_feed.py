"""Every viewer gets the overview, then the changes; one that cannot keep up gets the overview again."""

import asyncio
import json
from datetime import UTC, datetime
from types import SimpleNamespace

import msgspec
import pytest

from nexus.dashboard.feed import Feed
from nexus.dashboard.overview import Overview, Sources
from nexus.domain.fleet import FleetSnapshot
from nexus.fleet.discovery.origins import Origin
from nexus.observability.metrics.timeline import Timeline
from nexus.testing.builders import make_backend, make_fleet


class Viewer:
    """Takes what it is sent while ``has_room``."""

    def __init__(self):
        self.updates = []
        self.has_room = True
        self.left = asyncio.Event()

    def send(self, frames):
        if self.has_room:
            self.updates += [json.loads(line) for line in frames.splitlines()]
        return self.has_room

    async def over(self):
        await self.left.wait()

    def close(self):
        self.left.set()

    def told(self, update_type):
        return [update["data"] for update in self.updates if update["update_type"] == update_type]


@pytest.fixture
def world():
    """The fleet and the requests, to be changed by a test."""
    return SimpleNamespace(
        snapshot=make_fleet(make_backend("gpu-1"), make_backend("gpu-2")),
        origin_of=lambda _: Origin(joined_unix_s=0.0),
        next_probe_at=lambda _: 1000.0,
        kinds=["vllm"],
        requests=[{"id": 1}],
    )


@pytest.fixture
async def feed(world):
    def requests_since(number, most):
        newer = world.requests[number:]
        return len(world.requests), newer[max(0, len(newer) - most) :]

    overview = Overview(
        Sources(
            world,
            Timeline(),
            SimpleNamespace(after=requests_since),
            plugins=lambda: [{"name": "night"}],
            status=lambda: {"status": "healthy"},
        )
    )
    feed = Feed(overview, lambda text: text.encode() + b"\n", tick_s=0.01)
    yield feed
    await feed.stop()


@pytest.fixture
async def join(feed):
    """Give what lets a new viewer in."""
    serving = []

    async def enter(is_admitted=lambda: True):
        viewer = Viewer()
        serving.append(asyncio.get_running_loop().create_task(feed.serve(viewer, is_admitted)))
        await asyncio.sleep(0)
        return viewer

    yield enter
    for task in serving:
        task.cancel()
    await asyncio.gather(*serving, return_exceptions=True)


async def some_ticks():
    await asyncio.sleep(0.05)


async def test_a_new_viewer_gets_the_whole_overview(join):
    viewer = await join()

    (overview,) = viewer.told("Overview")
    assert [backend["name"] for backend in overview["backends"]] == ["gpu-1", "gpu-2"]
    assert [model["name"] for model in overview["backends"][0]["models"]] == ["llama3"]
    assert datetime.fromisoformat(overview["backends"][0]["next_check"]) == datetime.fromtimestamp(1000, UTC)
    assert (overview["history"], overview["plugins"]) == ([{"id": 1}], [{"name": "night"}])


async def test_figures_come_with_every_tick(join):
    viewer = await join()

    await some_ticks()

    figures = viewer.told("Figures")
    assert len(figures) > 1
    assert figures[0]["backends"].keys() == {"gpu-1", "gpu-2"}
    assert figures[0]["status"] == "healthy"


async def test_only_changed_backends_are_sent(join, world):
    viewer = await join()
    unchanged = world.snapshot.backends[0]
    changed = msgspec.structs.replace(world.snapshot.backends[1], last_error="refused")

    world.snapshot = FleetSnapshot(backends=(unchanged, changed))
    await some_ticks()

    assert [[row["name"] for row in rows] for rows in viewer.told("BackendStatus")] == [["gpu-2"]]
    assert "models" not in viewer.told("BackendStatus")[0][0]
    assert viewer.told("ModelChange") == []


async def test_models_are_sent_when_they_change(join, world):
    viewer = await join()

    world.snapshot = make_fleet(world.snapshot.backends[0], make_backend("gpu-2", models=["qwen3"]))
    await some_ticks()

    (change,) = viewer.told("ModelChange")
    assert change["backend_id"] == "gpu-2"
    assert [model["name"] for model in change["models"]] == ["qwen3"]


async def test_a_removed_backend_is_sent(join, world):
    viewer = await join()

    world.snapshot = make_fleet(world.snapshot.backends[0])
    await some_ticks()

    assert viewer.told("BackendRemoved") == [["gpu-2"]]


async def test_requests_are_sent_one_by_one_in_order(join, world):
    viewer = await join()

    world.requests += [{"id": 2}, {"id": 3}]
    await some_ticks()

    assert viewer.told("RequestComplete") == [{"id": 2}, {"id": 3}]


async def test_a_viewer_that_cannot_keep_up_gets_the_overview_again(join, world):
    slow, quick = await join(), await join()

    slow.has_room = False
    world.requests.append({"id": 2})
    await some_ticks()
    slow.has_room = True
    await some_ticks()

    assert slow.told("RequestComplete") == []
    assert slow.told("Overview")[-1]["history"] == [{"id": 2}, {"id": 1}]
    assert quick.told("RequestComplete") == [{"id": 2}]


async def test_nothing_runs_without_viewers(feed, join):
    viewer = await join()

    viewer.left.set()
    await some_ticks()

    assert (feed.viewers, feed._task) == (0, None)


async def test_a_viewer_after_a_pause_gets_no_old_changes(feed, join, world):
    first = await join()
    first.left.set()
    await some_ticks()
    world.requests.append({"id": 2})

    second = await join()
    await some_ticks()

    assert second.told("RequestComplete") == []
    assert second.told("BackendStatus") == []


async def test_a_viewer_that_is_no_longer_authorised_is_disconnected(feed, join):
    expired, other = await join(lambda: False), await join()

    feed.close_expired()
    await some_ticks()

    assert (expired.left.is_set(), other.left.is_set(), feed.viewers) == (True, False, 1)
