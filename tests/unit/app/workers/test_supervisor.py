"""Workers are kept running, replaced without a gap, and given up when no start succeeds."""

import asyncio
from functools import partial

import pytest
from structlog.testing import capture_logs

from nexus.app.workers import restarts, supervisor
from nexus.app.workers.messages import Failed, Stop
from nexus.app.workers.supervisor import Supervisor
from nexus.errors import PluginError, StartError


class FakeChild:
    """A worker that does what a test says."""

    def __init__(self, index):
        self.index, self.pid = index, 1000 + index
        self.has_begun = self.is_ready = self.is_leaving = self.has_ended = self.has_served = False
        self.failure, self.requests, self.served_s = None, 0.0, 0.0
        self.has_settled, self.is_gone, self._has_ended = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.told, self.obeys, self.hangs = [], True, False
        self.silences = 0
        """How many questions it will not answer in time."""

    @property
    def ending(self):
        return self.failure.text if self.failure else "killed by SIGKILL"

    def tell(self, topic, payload):
        self.told.append((topic, payload))
        if topic == "stop" and self.obeys:
            self.end()

    async def answers(self, timeout_s):
        del timeout_s
        self.silences -= 1
        return not self.hangs and self.silences < 0

    def begin(self):
        self.has_begun = self.is_ready = self.has_served = True
        self.has_settled.set()

    def leave(self):
        self.is_ready, self.is_leaving, self.obeys = False, True, False
        self.is_gone.set()

    def fail(self, error, text):
        self.failure = Failed(error, text)
        self.end()

    def kill(self):
        self.end()

    def end(self):
        self.is_ready, self.has_ended = False, True
        self._has_ended.set()
        self.has_settled.set()
        self.is_gone.set()

    async def ended(self, timeout_s=None):
        try:
            async with asyncio.timeout(timeout_s):
                await self._has_ended.wait()
        except TimeoutError:
            return False
        return True


class Scene:
    """A supervisor of fake workers; *act* decides what each does when it is started."""

    def __init__(self, act=FakeChild.begin, count=2):
        self.launched, self.reasons, self.silences, self.act = [], [], [], act
        self.supervisor = Supervisor(
            count,
            self._launch,
            on_ready=lambda _: None,
            on_silence=lambda child, *, is_silent: self.silences.append((child.index, is_silent)),
            drain_s=lambda: 30.0,
            give_up=self.reasons.append,
        )

    async def _launch(self, index):
        child = FakeChild(index)
        self.launched.append(child)
        self.act(child)
        return child

    async def until(self, condition):
        async with asyncio.timeout(5):
            while not condition():  # noqa: ASYNC110 - any of many facts
                await asyncio.sleep(0)

    def latest(self, index):
        return next(child for child in reversed(self.launched) if child.index == index)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(restarts, "FIRST_DELAY_S", 0.001)
    monkeypatch.setattr(supervisor, "EXIT_S", 0.01)
    monkeypatch.setattr(supervisor, "EXIT_CODE_S", 0.01)


@pytest.fixture
def log():
    with capture_logs() as log:
        yield log


def events(log, name):
    return [line for line in log if line["event"] == name]


async def test_the_start_waits_for_all_workers():
    scene = Scene()

    await scene.supervisor.start()

    assert (scene.supervisor.counts.wanted, scene.supervisor.counts.ready) == (2, 2)
    await scene.supervisor.stop(Stop())
    assert all(child.has_ended for child in scene.launched)


async def test_a_worker_that_ends_gets_a_successor_and_all_learn_of_it(log):
    scene = Scene()
    await scene.supervisor.start()

    scene.latest(1).end()
    await scene.until(lambda: len(scene.launched) == 3 and scene.supervisor.counts.ready == 2)

    (ended,) = events(log, "worker_ended")
    assert (ended["worker"], ended["reason"], ended["restart_in_s"]) == (1, "killed by SIGKILL", 0.0)
    assert [payload.ready for topic, payload in scene.latest(2).told if topic == "workers"][-2:] == [1, 2]
    await scene.supervisor.stop(Stop())


async def test_a_worker_that_leaves_finishes_beside_its_successor(log):
    scene = Scene()
    await scene.supervisor.start()
    leaving = scene.latest(2)

    leaving.leave()
    await scene.until(lambda: "stop" in [topic for topic, _ in leaving.told])

    assert ("stop", Stop(drain_s=30.0, is_replaced=True)) in leaving.told
    assert len(scene.launched) == 3
    assert not leaving.has_ended
    assert events(log, "worker_ended") == []
    leaving.end()
    await scene.supervisor.stop(Stop())


async def test_a_worker_that_leaves_accepts_connections_until_its_successor_serves():
    scene = Scene()
    await scene.supervisor.start()
    leaving = scene.launched[0]
    scene.act = lambda child: None

    leaving.leave()
    await scene.until(lambda: len(scene.launched) == 3)
    told_before = [topic for topic, _ in leaving.told]
    scene.launched[2].begin()
    await scene.until(lambda: "stop" in [topic for topic, _ in leaving.told])

    assert "stop" not in told_before
    leaving.end()
    await scene.supervisor.stop(Stop())


async def test_a_worker_that_leaves_with_an_old_configuration_waits_for_no_successor():
    scene = Scene()
    await scene.supervisor.start()
    leaving = scene.launched[0]
    scene.act = lambda child: None
    leaving.leave()
    await scene.until(lambda: len(scene.launched) == 3)

    scene.supervisor.let_leave_at_once()
    await scene.until(lambda: ("stop", Stop(drain_s=30.0, is_replaced=True)) in leaving.told)

    assert not scene.launched[2].has_served
    leaving.end()
    await scene.supervisor.stop(Stop())


async def test_a_worker_that_does_not_serve_yet_is_started_anew(log):
    scene = Scene()
    await scene.supervisor.start()
    served, ended = scene.launched
    scene.act = lambda child: None
    ended.end()
    await scene.until(lambda: len(scene.launched) == 3)

    scene.supervisor.start_anew()
    await scene.until(lambda: len(scene.launched) == 4)

    assert [served.has_ended, *(child.has_ended for child in scene.launched[2:])] == [False, True, False]
    assert len(events(log, "worker_ended")) == 1
    assert scene.reasons == []
    await scene.supervisor.stop(Stop())


async def test_workers_that_are_started_anew_again_and_again_wait_no_longer_each_time(monkeypatch):
    monkeypatch.setattr(restarts, "FIRST_DELAY_S", 60.0)
    scene = Scene()
    await scene.supervisor.start()
    scene.act = lambda child: None
    scene.latest(1).end()
    for number in range(3, 7):
        await scene.until(lambda number=number: len(scene.launched) == number)
        scene.supervisor.start_anew()
    await scene.until(lambda: len(scene.launched) == 7)
    scene.latest(1).begin()
    await scene.until(lambda: scene.supervisor.counts.ready == 2)
    await scene.supervisor.stop(Stop())


async def test_a_stop_waits_for_no_successor():
    scene = Scene()
    await scene.supervisor.start()
    leaving = scene.launched[0]
    scene.act = lambda child: None
    leaving.leave()
    await scene.until(lambda: len(scene.launched) == 3)
    leaving.obeys = True

    await scene.supervisor.stop(Stop(drain_s=5.0))

    assert leaving.told[-1] == ("stop", Stop(drain_s=5.0))
    assert all(child.has_ended for child in scene.launched)


async def test_what_a_worker_reports_at_the_start_ends_the_start_with_the_same_error(log):
    scene = Scene(lambda child: child.fail("PluginError", "its service does not start"))

    with pytest.raises(PluginError, match="its service does not start"):
        await scene.supervisor.start()
    await asyncio.sleep(0.01)
    await scene.supervisor.stop(Stop())

    assert scene.reasons == []
    assert (len(scene.launched), events(log, "worker_ended")) == (1, [])


async def test_a_start_is_given_up_after_five_failures_in_a_row(log):
    scene = Scene(FakeChild.end)

    with pytest.raises(StartError, match="no worker serves: 5 starts of workers failed in a row, the last: killed by"):
        await scene.supervisor.start()
    await scene.supervisor.stop(Stop())

    assert len(scene.launched) <= 6
    assert {line["restart_in_s"] for line in events(log, "worker_ended")[2:]} >= {0.001}


async def test_a_proxy_is_given_up_when_no_worker_serves_any_more():
    scene = Scene()
    await scene.supervisor.start()

    scene.act = FakeChild.end
    scene.latest(1).end()
    scene.latest(2).end()
    await scene.until(lambda: scene.reasons)

    assert "no worker serves" in str(scene.reasons[0])
    await scene.supervisor.stop(Stop())


async def test_failed_starts_beside_a_worker_that_serves_end_nothing():
    scene = Scene()
    await scene.supervisor.start()

    scene.act = lambda child: child.fail("PluginError", "no tunnel")
    scene.latest(1).end()
    await scene.until(lambda: len(scene.launched) > 8)

    assert scene.reasons == []
    assert scene.supervisor.counts.ready == 1
    await scene.supervisor.stop(Stop())


async def test_a_worker_that_hangs_at_its_start_is_killed(log, monkeypatch):
    monkeypatch.setattr(supervisor, "PING_EVERY_S", 0.001)

    def act(child):
        child.hangs = len(scene.launched) == 1
        if not child.hangs:
            child.begin()

    scene = Scene(act)

    await scene.supervisor.start()

    assert [line["reason"] for line in events(log, "worker_killed")] == [
        "its event loop has not answered for 120 s",
    ]
    await scene.supervisor.stop(Stop())


async def test_a_worker_may_take_long_to_start(log, monkeypatch):
    monkeypatch.setattr(supervisor, "PING_EVERY_S", 0.001)
    scene = Scene(lambda _: None)
    starting = asyncio.ensure_future(scene.supervisor.start())

    await asyncio.sleep(0.02)
    for child in scene.launched:
        child.begin()
    await starting

    assert events(log, "worker_killed") == []
    await scene.supervisor.stop(Stop())


async def test_a_worker_that_hangs_while_it_serves_is_killed_and_replaced(log, monkeypatch):
    monkeypatch.setattr(supervisor, "PING_EVERY_S", 0.001)
    scene = Scene()
    await scene.supervisor.start()

    scene.latest(1).hangs = True
    await scene.until(lambda: len(scene.launched) == 3 and scene.supervisor.counts.ready == 2)

    assert [line["reason"] for line in events(log, "worker_killed")] == [
        "its event loop has not answered for 60 s",
    ]
    assert scene.silences == [(1, True)]
    await scene.supervisor.stop(Stop())


async def test_a_worker_that_hangs_for_a_moment_is_reported_and_goes_on(log, monkeypatch):
    monkeypatch.setattr(supervisor, "PING_EVERY_S", 0.001)
    scene = Scene()
    await scene.supervisor.start()

    scene.latest(2).silences = 1
    await scene.until(lambda: len(scene.silences) == 2)

    assert scene.silences == [(2, True), (2, False)]
    assert len(scene.launched) == 2
    assert [(line["event"], line["worker"]) for line in log if line["event"].startswith(("worker_s", "worker_a"))][
        2:
    ] == [
        ("worker_silent", 2),
        ("worker_answers_again", 2),
    ]
    await scene.supervisor.stop(Stop())


async def test_the_others_learn_which_workers_accept_no_connections(monkeypatch):
    monkeypatch.setattr(supervisor, "PING_EVERY_S", 0.001)
    scene = Scene()
    await scene.supervisor.start()

    def unattended():
        return [payload.unattended for topic, payload in scene.latest(2).told if topic == "workers"]

    at_start = unattended()
    scene.latest(1).silences = 1
    await scene.until(lambda: len(scene.silences) == 2)
    while_silent = unattended()[len(at_start) :]
    scene.latest(1).end()
    await scene.until(lambda: len(scene.launched) == 3 and scene.supervisor.counts.ready == 2)
    while_ended = unattended()[len(at_start) + len(while_silent) :]
    await scene.supervisor.stop(Stop())

    assert (set(at_start), while_silent, while_ended) == ({()}, [(1,), ()], [(1,), ()])


async def test_the_workers_are_alive_as_long_as_one_answers_or_starts(monkeypatch):
    monkeypatch.setattr(supervisor, "PING_EVERY_S", 0.001)
    scene = Scene()
    await scene.supervisor.start()

    async def say_nothing(child, timeout_s):
        return timeout_s != supervisor.SILENT_S and await child.is_gone.wait()

    alive = [scene.supervisor.is_alive]
    for index in (1, 2):
        scene.latest(index).answers = partial(say_nothing, scene.latest(index))
        await scene.until(lambda index=index: len(scene.silences) == index)
        alive.append(scene.supervisor.is_alive)
    scene.act = lambda _: None  # the next starts, and is not ready yet
    scene.latest(1).end()
    await scene.until(lambda: len(scene.launched) == 3)
    alive.append(scene.supervisor.is_alive)
    await scene.supervisor.stop(Stop())

    assert alive == [True, True, False, True]


async def test_a_worker_that_does_not_end_is_killed(log):
    scene = Scene()
    await scene.supervisor.start()
    scene.latest(1).obeys = False

    await scene.supervisor.stop(Stop(drain_s=0.01))

    assert [line["worker"] for line in events(log, "worker_killed")] == [1]
    assert all(child.has_ended for child in scene.launched)


async def test_a_worker_that_has_not_begun_is_killed_without_ado(log):
    scene = Scene(lambda _: None)
    starting = asyncio.ensure_future(scene.supervisor.start())
    await scene.until(lambda: len(scene.launched) == 2)

    await scene.supervisor.stop(Stop())
    starting.cancel()

    assert all(child.has_ended for child in scene.launched)
    assert events(log, "worker_killed") == []


async def test_a_process_that_cannot_be_started_counts_as_a_failed_start():
    def fail(_):
        raise OSError(11, "Resource temporarily unavailable")

    scene = Scene(fail)

    with pytest.raises(StartError, match="no process can be started: Resource temporarily unavailable"):
        await scene.supervisor.start()
    await scene.supervisor.stop(Stop())


async def test_a_worker_above_its_share_is_told_to_close_connections(monkeypatch):
    monkeypatch.setattr(supervisor, "BALANCE_S", 0.001)
    scene = Scene()
    await scene.supervisor.start()
    scene.latest(1).requests, scene.latest(2).requests = 300.0, 100.0

    await scene.until(lambda: any(topic == "shed" for topic, _ in scene.latest(1).told))

    assert next(payload.connections for topic, payload in scene.latest(1).told if topic == "shed") == 50
    assert not any(topic == "shed" for topic, _ in scene.latest(2).told)
    await scene.supervisor.stop(Stop())
