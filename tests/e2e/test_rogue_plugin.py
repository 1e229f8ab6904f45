"""A plugin that goes wrong in a started proxy is contained as it has declared, named, and in the end left out."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nexus.testing.client import ask, chat
from nexus.testing.fleets import table_of
from nexus.testing.waiting import until
from tests.support.installing import install_plugin

ROGUE = Path(__file__).parents[1] / "plugins" / "nexus-proxy-rogue"
MISDEEDS = ("raises", "exits", "returns", "blames", "mutates", "lies")


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Install nexus-proxy-rogue, and give the environment of processes that have it."""
    folder = tmp_path_factory.mktemp("site")
    install_plugin(ROGUE, folder)
    return {"PYTHONPATH": str(folder)}


@pytest.fixture
def rogue(start_nexus, simulate, installed):
    """Start a proxy with the plugin, which does what it is told."""

    def start(does, *, on_error="skip", routing=""):
        table = f'[plugins.rogue]\ndoes = "{does}"\non_error = "{on_error}"\n'
        return start_nexus(f"{routing}{table_of(simulate())}{table}", environ=installed)

    return start


def metric(nexus, name):
    """Return the value of a metric; None when there is none of that name and those labels."""
    text = ask(nexus.url, "/metrics").body.decode()
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else None


def asked(nexus, **more):
    return ask(nexus.url, "/v1/chat/completions", chat(**more))


@pytest.mark.parametrize("does", MISDEEDS)
def test_requests_go_on_without_a_stage_that_may_be_skipped_and_after_five_it_is_left_out(rogue, does):
    nexus = rogue(does)

    replies = [asked(nexus) for _ in range(7)]

    assert [reply.status for reply in replies] == [200] * 7
    (line,) = nexus.wait_for_log("stage_switched_off")
    assert (line["plugin"], line["stage"]) == ("rogue", "rogue")
    assert nexus.log_lines("stage_skipped")[0]["stage"] == "rogue"
    part = "reserve" if does == "lies" else "reconcile"
    assert metric(nexus, f'nexus_reconciler_failures_total{{reconciler="rogue",part="{part}"}}') == 5
    assert metric(nexus, 'nexus_reconciler_switched_off{reconciler="rogue"}') == 1
    assert nexus.get_json("/ready")["detail"]["switched_off_stages"] == ["rogue"]


@pytest.mark.parametrize("does", MISDEEDS)
def test_requests_are_rejected_when_a_stage_fails_that_must_not_be_skipped(rogue, does):
    nexus = rogue(does, on_error="reject")

    replies = [asked(nexus) for _ in range(6)]

    assert {(reply.status, reply.json()["error"]["code"]) for reply in replies} == {(503, "policy_unavailable")}
    assert "'rogue'" in replies[0].json()["error"]["message"]
    assert nexus.wait_for_log("stage_failed")[0]["plugin"] == "rogue"
    assert metric(nexus, 'nexus_reconciler_switched_off{reconciler="rogue"}') == 0
    assert nexus.get_json("/health")["status"] == "healthy"


def test_whatever_a_stage_raises_the_proxy_goes_on_and_says_whose_it_was(rogue):
    nexus = rogue("whatever", on_error="reject")

    replies = [asked(nexus) for _ in range(16)]

    assert {(reply.status, reply.json()["error"]["code"]) for reply in replies} == {(503, "policy_unavailable")}
    assert nexus.wait_for_log("stage_failed")[0]["plugin"] == "rogue"
    assert metric(nexus, 'nexus_reconciler_failures_total{reconciler="rogue",part="reconcile"}') == 16
    assert ask(nexus.url, "/v1/route/explain", chat()).status == 200
    assert nexus.get_json("/health")["status"] == "healthy"


def test_nothing_that_a_plugin_puts_on_the_event_loop_ends_the_proxy(rogue):
    nexus = rogue("ends")

    named = {line["task"]: line["plugin"] for line in nexus.wait_for_log("task_failed", 2)}
    escaped = nexus.wait_for_log("exit_ignored", 2)

    assert named == {"rogue-exits": "rogue", "rogue-interrupts": "rogue"}
    assert {line["error_type"] for line in escaped} == {"SystemExit", "KeyboardInterrupt"}
    assert {(line["plugin"], line["distribution"]) for line in escaped} == {("rogue", "nexus-proxy-rogue")}
    assert asked(nexus).status == 200
    assert nexus.stop() == 0
    assert nexus.log_lines("service_not_stopped")[0]["plugin"] == "rogue"
    assert nexus.log_lines("stopped")


@pytest.mark.parametrize("raised", ["SystemExit(0)", "KeyboardInterrupt()", "GeneratorExit()"])
@pytest.mark.parametrize("hook", ["", "nexus_reconcilers", "nexus_config", "nexus_services", "nexus_configured"])
def test_a_plugin_that_raises_at_the_start_is_named_and_the_start_has_failed(command, tmp_path, hook, raised):
    misdeed = f"raise {raised}" if not hook else f"@hookimpl\ndef {hook}():\n    raise {raised}"
    (tmp_path / "bad.py").write_text(f"from nexus.api import hookimpl\n{misdeed}\n")

    ended = command("serve", "--plugin", "bad.py", "--no-discovery")

    assert ended.returncode == 1
    last = ended.stderr.splitlines()[-1]
    assert last.startswith("nexus-proxy: plugin 'bad' (bad.py)"), ended.stderr
    assert raised.partition("(")[0] in last


@pytest.mark.parametrize("does", ["whatever", "exits"])
def test_the_check_of_a_plugin_goes_on_to_its_end_whatever_a_stage_raises(command, tmp_path, installed, does):
    (tmp_path / "nexus.toml").write_text(f'[plugins.rogue]\ndoes = "{does}"\n')

    checked = command("plugins", "check", "rogue", **installed)

    failed = [line for line in checked.stdout.splitlines() if line.startswith("failed")]
    assert (checked.returncode, len(failed) >= 5) == (1, True)
    assert "ok," in checked.stdout.splitlines()[-1] + ","
    if does == "exits":
        assert "the stage 'rogue' of plugin 'rogue' (nexus-proxy-rogue) raised SystemExit: 1" in failed[0]


@pytest.fixture
def heeds_ctrl_c():
    """Let processes that a test starts heed SIGINT, also where the tests run in the background of a shell."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_ends_the_check_of_a_plugin(heeds_ctrl_c, tmp_path):
    source = "import sys, time\nfrom nexus.api import *\nclass Slow(Reconciler):\n    name = 'slow'\n"
    source += "    priority = 3\n    on_error = 'skip'\n    def reconcile(self, intent):\n"
    source += "        try:\n            print('at work', flush=True)\n            time.sleep(20)\n"
    source += "        except KeyboardInterrupt:\n            raise KeyboardInterrupt('once more') from None\n"
    source += "@hookimpl\ndef nexus_reconcilers():\n    return [Slow()]\n"
    (tmp_path / "slow.py").write_text(source)
    words = [sys.executable, "-m", "nexus", "plugins", "check", "slow", "--plugin", "slow.py"]
    with subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while "at work" not in process.stdout.readline():
            pass

        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=10)

    assert (process.returncode, "Aborted" in told) == (1, True)


CONTRACTS = """
import asyncio
from hypothesis import Phase, settings
settings.register_profile("brief", phases=[Phase.generate], database=None)
settings.load_profile("brief")
from nexus.api import Reconciler
from nexus.testing.reconciler_contract import ReconcilerContract

class Bad(Reconciler):
    name, priority, on_error = "bad", 3, "skip"
    def __init__(self, raised):
        self.raised = raised
    def reconcile(self, intent):
        raise self.raised

class TestInterrupts(ReconcilerContract):
    def make(self):
        return Bad(KeyboardInterrupt)

class TestExits(ReconcilerContract):
    def make(self):
        return Bad(SystemExit)

class TestCancels(ReconcilerContract):
    def make(self):
        return Bad(asyncio.CancelledError)
"""


def test_the_contract_in_pytest_goes_on_and_names_the_stage(tmp_path):
    (tmp_path / "test_stage.py").write_text(CONTRACTS)
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:schemathesis"]

    run = subprocess.run(
        [*words, "-k", "never_adds or quick", "test_stage.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
    )

    assert (run.returncode, run.stdout.splitlines()[-1].startswith("6 failed")) == (1, True), run.stdout
    for raised in ("KeyboardInterrupt", "SystemExit", "CancelledError"):
        assert f"the stage 'bad' of plugin 'bad' (test_stage) raised {raised}" in run.stdout


@pytest.mark.parametrize("does", [*MISDEEDS, "blocks"])
def test_a_stage_that_only_observes_never_rejects(rogue, does):
    nexus = rogue(does, on_error="reject", routing='[routing]\nobserve = ["rogue"]\n')

    assert [asked(nexus).status for _ in range(3)] == [200] * 3


def test_a_stage_that_keeps_everybody_waiting_is_named_and_left_out(rogue):
    nexus = rogue("blocks")

    assert [asked(nexus).status for _ in range(6)] == [200] * 6

    (line,) = nexus.wait_for_log("stage_slow")
    assert (line["stage"], line["took_ms"] > 50) == ("rogue", True)
    assert nexus.wait_for_log("stage_switched_off")
    assert metric(nexus, 'nexus_reconciler_slow_total{reconciler="rogue",part="reconcile"}') == 5


@pytest.mark.parametrize("stream", [True, False])
def test_what_a_stage_does_not_give_back_does_not_keep_the_slot(rogue, stream):
    nexus = rogue("leaks", on_error="reject")

    replies = [asked(nexus, stream=stream) for _ in range(3)]

    assert [reply.status for reply in replies] == [200] * 3
    assert all("Set-Cookie" not in reply.headers and "X-Nexus-Rogue" not in reply.headers for reply in replies)
    assert nexus.wait_for_log("hold_not_settled")
    assert nexus.wait_for_log("hold_without_headers")
    assert until(lambda: metric(nexus, 'nexus_pending_requests{backend="gpu-1"}') == 0)


def test_an_observer_that_fails_is_named_and_no_client_notices(rogue):
    nexus = rogue("unsettled")

    assert asked(nexus).status == 200

    assert nexus.wait_for_log("observer_failed")[0]["plugin"] == "rogue"
    assert until(lambda: metric(nexus, 'nexus_observer_failures_total{plugin="rogue"}') == 1)
    assert len(nexus.wait_for_log("exchange_finished")) == 1


def test_a_stage_cannot_pass_its_figures_off_as_those_of_nexus(rogue):
    nexus = rogue("misnames")
    asked(nexus)

    assert metric(nexus, "nexus_requests_total") is None
    assert nexus.wait_for_log("stage_not_measured")[0]["stage"] == "rogue"
    labels = 'model="llama3",backend="gpu-1",status="200",result="finished"'
    assert until(lambda: metric(nexus, f"nexus_requests_total{{{labels}}}") == 1)


def hoots(nexus):
    text = ask(nexus.url, "/metrics").body.decode()
    return {
        model: float(value)
        for model, value in re.findall(r'^nexus_rogue_hoots_total{model="(.+)"} (\S+)$', text, re.MULTILINE)
    }


def test_a_metric_that_is_too_large_is_told_in_part_and_no_counter_falls_over_a_reload(rogue):
    nexus = rogue("counts")

    first = hoots(nexus)
    nexus.send(signal.SIGHUP)
    nexus.wait_for_log("config_reloaded")
    second = hoots(nexus)

    assert len(first) == 1001
    assert second.keys() == first.keys()
    assert [model for model, value in first.items() if second[model] < value] == []
    assert second["other"] >= first["other"] >= 200
    assert metric(nexus, 'nexus_plugin_series_left_out{metric="nexus_rogue_hoots",reason="too_many"}') == 200
    assert metric(nexus, 'nexus_plugin_series_left_out{metric="nexus_rogue_hoots",reason="invalid"}') == 2
    assert {line["reason"] for line in nexus.wait_for_log("series_left_out", 2)} == {"too_many", "invalid"}


def test_a_stage_that_behaves_is_measured(rogue):
    assert metric(rogue("nothing"), "nexus_rogue_owls_total") == 3


def test_a_reload_switches_it_on_again_and_counts_on(rogue):
    nexus = rogue("raises")
    for _ in range(6):
        asked(nexus)

    nexus.config_file.write_text(nexus.config_file.read_text().replace('"raises"', '"nothing"'))
    nexus.send(1)
    nexus.wait_for_log("config_reloaded")

    assert asked(nexus).status == 200
    assert metric(nexus, 'nexus_reconciler_switched_off{reconciler="rogue"}') == 0
    assert metric(nexus, 'nexus_reconciler_failures_total{reconciler="rogue",part="reconcile"}') == 5
