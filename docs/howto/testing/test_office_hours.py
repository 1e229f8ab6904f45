"""The plugin keeps requests off the cloud at night, also in a running proxy, and its stage passes the contract."""

from pathlib import Path
from typing import ClassVar

import office_hours
import pytest
from office_hours import OfficeConfig, OfficeHours, OfficeKeys

from nexus.api import Reconciler
from nexus.testing.imports import assert_only_uses_api
from nexus.testing.reconciler_contract import ReconcilerContract

pytest_plugins = ["nexus.testing.fixtures"]

CLOSED = "[plugins.office_hours]\nfirst_hour = 24\nlast_hour = 24\n"


class TestByDefault(ReconcilerContract):
    plugin = "office_hours"

    def make(self) -> Reconciler:
        return OfficeHours(OfficeConfig())


class TestUnderPolicy(TestByDefault):
    policy: ClassVar = {"office_hours": OfficeKeys(at_night=True)}


@pytest.mark.parametrize(("hour", "left"), [("03", {"gpu-1"}), ("12", {"gpu-1", "openai"})])
def test_cloud_backends_rest_at_night(intent, hour, left):
    asked = intent(received_at=f"2026-05-01T{hour}:00", backends={"gpu-1": "local", "openai": "cloud"})

    OfficeHours(OfficeConfig()).reconcile(asked)

    assert asked.candidates == left


def test_a_running_proxy_asks_another_backend(nexus, fake_backend):
    gpu, cloud = fake_backend("gpu-1", priority=90), fake_backend("openai", zone="open", priority=10)
    running = nexus(gpu, cloud, config=CLOSED, plugins=[Path(office_hours.__file__)])

    answer = running.chat(text="good night")

    assert (answer.status, answer.backend) == (200, "gpu-1")
    assert "good night" in gpu.prompts[0]
    assert cloud.prompts == ()


def test_when_no_other_backend_is_left_the_client_learns_why(nexus, fake_backend, capture_events):
    running = nexus(fake_backend("openai", zone="open"), config=CLOSED, plugins=[Path(office_hours.__file__)])

    answer = running.chat()

    assert (answer.status, answer.code) == (503, "rejected_by_policy")
    assert answer.reasons == {"openai": "cloud backends rest at night"}
    assert capture_events.wait_for("exchange_finished")[0]["code"] == "rejected_by_policy"


def test_it_imports_nothing_of_nexus_but_the_api():
    assert_only_uses_api(office_hours)
