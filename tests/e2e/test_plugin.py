"""``pip install`` of a third-party distribution, and a restart, change how a started proxy routes."""

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from nexus.testing.client import ask, chat
from nexus.testing.fleets import table_of
from tests.support.installing import install_plugin

NIGHT = Path(__file__).parents[1] / "plugins" / "nexus-proxy-night"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Install nexus-proxy-night, and give the environment of processes that have it."""
    folder = tmp_path_factory.mktemp("site")
    install_plugin(NIGHT, folder)
    return {"PYTHONPATH": str(folder)}


@pytest.fixture
def cloudy(simulate):
    """Start a local server and a preferred one in the cloud; give their configuration."""
    local, cloud = simulate(name="gpu-1"), simulate(name="cloud")
    return table_of(local, priority=90) + table_of(cloud, priority=0, zone="open")


def hours(*, is_open):
    """Return a table by which the cloud may, or may not, be used at this hour."""
    hour = datetime.now(UTC).hour
    # Two hours, so that a test that runs over the full one means the same.
    allowed = (0, 24) if is_open else ((hour + 2) % 24, (hour + 2) % 24)
    return "\n[plugins.night]\nfirst_hour = {}\nlast_hour = {}\n".format(*allowed)


def test_without_it_the_cloud_is_asked(start_nexus, cloudy):
    nexus = start_nexus(cloudy)

    assert ask(nexus.url, "/v1/chat/completions", chat()).headers["X-Nexus-Backend"] == "cloud"


@pytest.mark.parametrize(("is_open", "name"), [(True, "cloud"), (False, "gpu-1")])
@pytest.mark.parametrize("stream", [True, False])
def test_with_it_its_table_says_when(start_nexus, cloudy, installed, is_open, name, stream):
    nexus = start_nexus(cloudy + hours(is_open=is_open), environ=installed)

    reply = ask(nexus.url, "/v1/chat/completions", chat(stream=stream))

    assert (reply.status, reply.headers["X-Nexus-Backend"]) == (200, name)


def test_when_nobody_else_is_left_the_client_is_told_who_forbade_it(start_nexus, simulate, installed):
    cloud = simulate(name="cloud")
    nexus = start_nexus(table_of(cloud, zone="open") + hours(is_open=False), environ=installed)

    reply = ask(nexus.url, "/v1/chat/completions", chat())

    assert (reply.status, reply.json()["error"]["code"]) == (503, "rejected_by_policy")
    assert reply.json()["context"]["rejection_reasons"] == [
        {
            "agent_id": "cloud",
            "reconciler": "no-cloud-at-night",
            "reason": "cloud backends rest at night",
            "suggested_action": "Ask again in the morning",
        }
    ]
    assert reply.headers["X-Nexus-Rejection-Reasons"] == "1 agents rejected by no-cloud-at-night"
    assert not cloud.received("/v1/chat/completions")


def test_when_it_only_observes_it_decides_nothing(start_nexus, cloudy, installed):
    config = '[routing]\nobserve = ["no-cloud-at-night"]\n' + cloudy + hours(is_open=False)
    nexus = start_nexus(config, environ=installed)

    assert ask(nexus.url, "/v1/chat/completions", chat()).headers["X-Nexus-Backend"] == "cloud"


def test_when_it_is_disabled_it_does_nothing(start_nexus, cloudy, installed):
    nexus = start_nexus(cloudy, environ=installed, arguments=("--disable-plugin", "night"))

    assert ask(nexus.url, "/v1/chat/completions", chat()).headers["X-Nexus-Backend"] == "cloud"


def test_a_file_alone_is_enough_to_try_it(start_nexus, cloudy):
    table = hours(is_open=False).replace("plugins.night", "plugins.nexus_night")
    nexus = start_nexus(cloudy + table, arguments=("--plugin", str(NIGHT / "nexus_night.py")))

    assert ask(nexus.url, "/v1/chat/completions", chat()).headers["X-Nexus-Backend"] == "gpu-1"


def test_commands_show_it(command, installed):
    version, plugins, pipeline = (command(word, **installed) for word in ("--version", "plugins", "pipeline"))

    (row,) = [line for line in version.stdout.splitlines() if "nexus-proxy-night" in line]
    assert row.split() == [
        "night",
        "nexus-proxy-night",
        "0.2.1",
        "stages:",
        "no-cloud-at-night",
        "config:",
        "[plugins.night]",
    ]
    assert "night  nexus-proxy-night 0.2.1  enabled\n  stages: 250 no-cloud-at-night" in plugins.stdout
    (stage,) = [line for line in pipeline.stdout.splitlines() if "no-cloud-at-night" in line]
    assert stage.split()[:3] == ["250", "no-cloud-at-night", "nexus-proxy-night"]
    assert stage.endswith("skips on error")


def test_a_config_that_requires_it_does_not_start_without_it(command, tmp_path, installed):
    (tmp_path / "nexus.toml").write_text('[plugin_loading]\nrequired = ["night>=0.2"]\n')

    assert command("check").returncode == 78
    assert command("check", **installed).returncode == 0


def test_its_metadata_is_that_of_a_real_distribution(installed):
    code = "from importlib.metadata import version; print(version('nexus-proxy-night'))"
    told = subprocess.run([sys.executable, "-c", code], env=installed, capture_output=True, text=True, check=True)

    assert told.stdout.strip() == "0.2.1"
