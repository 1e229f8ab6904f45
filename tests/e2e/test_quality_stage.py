"""With nexus-proxy-quality, traffic leaves a backend that fails or is slow, and comes back when it was mended."""

import signal
from collections import Counter
from contextlib import ExitStack

import openai
import pytest

from nexus.simulator import Cut, Settings, Simulator, Status, in_thread
from nexus.testing.client import ask
from nexus.testing.fleets import table_of
from nexus.testing.waiting import until

QUESTION = [{"role": "user", "content": "hello there"}]
ROUTING = '[routing]\nstrategy = "round_robin"\n'
LONG_S = 600


def plugin_table(**keys):
    rows = {"error_rate_threshold": 0.3, "min_samples": 4, "trial_interval_seconds": LONG_S, **keys}
    return "\n[plugins.quality]\n" + "".join(f"{key} = {value}\n" for key, value in rows.items())


class Fleet:
    """A started proxy before two servers, and what it tells of the first."""

    def __init__(self, nexus, client, first):
        self.nexus = nexus
        self._client = client
        self._first = first

    def stream(self):
        """Ask for a stream, and return who answered; None when it broke off."""
        text = ""
        try:
            for chunk in self._client.chat.completions.create(model="llama3", messages=QUESTION, stream=True):
                text += chunk.choices[0].delta.content or ""
        except openai.APIError:
            return None
        return text.partition(":")[0]

    def streams(self, times):
        """Ask so often, and count the answers of each."""
        return Counter(self.stream() for _ in range(times))

    def break_every_second(self, times):
        """Ask so often while the first server breaks every second stream that it is asked for."""
        for _ in range(times):
            is_even = len(self._first.received("/v1/chat/completions")) % 2 == 0
            self._first.faults.set(*([Cut(times=1, after_events=3)] if is_even else []))
            self.stream()
        self._first.faults.clear()

    def figures(self):
        """Return what the plugin's page says of the first server; None: nothing."""
        rows = self.nexus.get_json("/admin/quality")["models"]
        return next((row for row in rows if row["backend"] == self._first.name), None)

    def metric(self, name):
        wanted = f'nexus_quality_{name}{{backend="{self._first.name}",model="llama3"}} '
        lines = ask(self.nexus.url, "/metrics").body.decode().splitlines()
        return next(float(line.removeprefix(wanted)) for line in lines if line.startswith(wanted))

    def reload(self, config):
        self.nexus.config_file.write_text(config)
        self.nexus.send(signal.SIGHUP)
        self.nexus.wait_for_log("config_reloaded")


@pytest.fixture
def before(start_nexus):
    """Start a proxy with the configuration given before these servers."""
    with ExitStack() as clients:

        def start(config, first):
            nexus = start_nexus(config)
            client = openai.OpenAI(base_url=f"{nexus.url}/v1", api_key="unused", max_retries=0)
            return Fleet(nexus, clients.enter_context(client), first)

        yield start


@pytest.fixture
def pair(simulate):
    """Start two servers, and give the first and the tables of both."""
    flaky, steady = simulate(name="flaky"), simulate(name="steady")
    return flaky, ROUTING + table_of(flaky) + table_of(steady)


def test_who_breaks_half_of_its_streams_is_left_alone(before, pair):
    flaky, tables = pair
    fleet = before(tables + plugin_table(), flaky)

    fleet.break_every_second(20)

    assert fleet.streams(10) == {"steady": 10}
    assert fleet.metric("avoided") == 1
    assert fleet.metric("error_rate_1h") == fleet.figures()["error_rate_1h"] > 0.3
    (line, *_) = fleet.nexus.wait_for_log("quality_poor")
    assert (line["backend"], line["model"]) == ("flaky", "llama3")


def test_it_is_tried_now_and_then_and_comes_back_when_it_was_mended(before, pair):
    flaky, tables = pair
    fleet = before(tables + plugin_table(trial_interval_seconds=0.3, trial_successes=3), flaky)
    fleet.break_every_second(20)
    broken = fleet.figures()

    until(lambda: fleet.stream() and not fleet.figures()["is_avoided"])

    assert broken["is_avoided"]
    assert fleet.figures()["error_rate_1h"] > 0.3
    assert fleet.metric("trials_total") >= 3
    assert fleet.streams(10) == {"flaky": 5, "steady": 5}


def test_a_reload_changes_the_limits_and_keeps_what_was_learnt(before, pair):
    flaky, tables = pair
    fleet = before(tables + plugin_table(min_samples=1000), flaky)
    fleet.break_every_second(20)
    lenient = fleet.figures()

    fleet.reload(tables + plugin_table())
    strict = fleet.figures()

    assert (lenient["is_avoided"], strict["is_avoided"]) == (False, True)
    assert strict == {**lenient, "is_avoided": True}
    assert strict["request_count_1h"] == 10


def test_a_storm_of_bad_requests_excludes_nobody(before, pair):
    flaky, tables = pair
    fleet = before(tables + plugin_table(), flaky)
    for status in (400, 404, 422):
        flaky.faults.set(Status(status=status))
        fleet.streams(20)
    flaky.faults.clear()

    assert fleet.streams(10) == {"flaky": 5, "steady": 5}
    assert not fleet.figures()["is_avoided"]
    assert fleet.figures()["request_count_1h"] == 5


def test_who_only_observes_tells_and_decides_nothing(before, pair):
    flaky, tables = pair
    fleet = before(tables.replace("[routing]", '[routing]\nobserve = ["quality"]') + plugin_table(), flaky)

    fleet.break_every_second(20)

    assert fleet.metric("avoided") == 1
    assert fleet.metric("trials_total") == 0
    assert fleet.streams(10) == {"flaky": 5, "steady": 5}


def test_who_begins_late_is_left_alone_until_it_was_mended(before, simulate):
    quick, slow = simulate(name="quick"), Simulator(Settings(name="slow", ttft_s=0.25))
    with in_thread(slow):
        port = slow.port
        tables = ROUTING + table_of(quick) + table_of(slow)
        keys = {"ttft_penalty_threshold_ms": 100, "trial_interval_seconds": 0.5}
        fleet = before(tables + plugin_table(**keys), slow)
        fleet.streams(8)
        late = fleet.figures()
        while_late = fleet.streams(10)
    with in_thread(Simulator(Settings(name="slow", port=port))):
        until(lambda: fleet.stream() and not fleet.figures()["is_slow"])
        mended = fleet.streams(10)

    assert late["is_slow"]
    assert not late["is_avoided"]
    assert 250 <= late["avg_ttft_ms"] < 1000
    assert while_late["quick"] >= 9
    assert mended == {"quick": 5, "slow": 5}


def test_who_leaves_the_fleet_vanishes(before, pair, simulate):
    flaky, tables = pair
    fleet = before(tables + plugin_table(), flaky)
    fleet.streams(4)
    known = fleet.figures()

    fleet.reload(ROUTING + table_of(simulate(name="other")) + plugin_table())
    until(lambda: fleet.stream() == "other")

    assert known is not None
    assert fleet.figures() is None


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("error_rate_threshold", 1.5, "expected `float` <= 1.0"),
        ("ttft_penalty_threshold_ms", 0, "expected `int` >= 1"),
        (
            "eror_rate_threshold",
            0.5,
            "unknown key - at `eror_rate_threshold` (line 2); did you mean 'error_rate_threshold'?",
        ),
    ],
)
def test_a_table_that_makes_no_sense_refuses_to_start(command, tmp_path, key, value, expected):
    (tmp_path / "nexus.toml").write_text(f"[plugins.quality]\n{key} = {value}\n")

    refused = command("--config", "nexus.toml")

    assert refused.returncode != 0
    assert "nexus.toml: [plugins.quality]" in refused.stderr
    assert expected in refused.stderr
