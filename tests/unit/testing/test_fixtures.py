"""What authors of plugins test with does what it says."""

from pathlib import Path

import pytest

from nexus.errors import ConfigError
from nexus.simulator import Status

NIGHT = Path(__file__).parents[2] / "plugins" / "nexus-proxy-night" / "nexus_night.py"
CLOSED = "[plugins.nexus_night]\nfirst_hour = 24\nlast_hour = 24\n"


def test_a_request_goes_through_a_running_proxy_to_a_fake_backend(nexus, fake_backend):
    gpu = fake_backend("gpu-1")

    answer = nexus(gpu).chat(text="are you there?")

    assert (answer.status, answer.backend, answer.code) == (200, "gpu-1", None)
    assert answer.text.startswith("gpu-1")
    assert len(gpu.prompts) == 1
    assert "are you there?" in gpu.prompts[0]


def test_a_plugin_in_a_file_changes_who_is_asked(nexus, fake_backend):
    gpu, cloud = fake_backend("gpu-1", priority=90), fake_backend("openai", zone="open", priority=0)

    without, with_it = nexus(gpu, cloud), nexus(gpu, cloud, config=CLOSED, plugins=[NIGHT])

    assert (without.chat().backend, with_it.chat().backend) == ("openai", "gpu-1")


def test_a_rejection_says_why(nexus, fake_backend):
    answer = nexus(fake_backend("openai", zone="open"), config=CLOSED, plugins=[NIGHT]).chat()

    assert (answer.status, answer.code, answer.backend) == (503, "rejected_by_policy", None)
    assert answer.reasons == {"openai": "cloud backends rest at night"}


def test_a_fake_backend_fails_when_it_is_told_to(nexus, fake_backend):
    gpu, other = fake_backend("gpu-1", priority=0), fake_backend("gpu-2", priority=90)
    gpu.simulator.faults.set(Status(503))

    assert nexus(gpu, other).chat().backend == "gpu-2"


def test_its_pages_can_be_asked_for(nexus, fake_backend):
    running = nexus(fake_backend())

    assert running.ask("/v1/models").json()["data"][0]["id"] == "llama3"
    assert "nexus_pipeline_duration_seconds" in running.metrics()


def test_a_proxy_that_cannot_start_says_so(nexus):
    with pytest.raises(ConfigError, match="bugdet"):
        nexus(config="[plugins.bugdet]")


def test_log_events_are_captured(nexus, fake_backend, capture_events):
    nexus(fake_backend()).chat()

    (finished,) = capture_events.wait_for("exchange_finished")
    assert finished["backend"] == "gpu-1"
    assert capture_events.named("exchange_crashed") == []
    assert len(capture_events) == len(list(capture_events)) > 1


def test_an_event_that_does_not_come_is_waited_for_no_longer_than_said(capture_events):
    with pytest.raises(AssertionError):
        capture_events.wait_for("exchange_finished", within_s=0.01)


def test_an_intent_is_made_of_what_matters(intent):
    assert intent(backends={"gpu-1": "local", "openai": "cloud"}).candidates == {"gpu-1", "openai"}
