"""What failed, and what Nexus itself refused, as the dashboard shows it."""

from http.client import IncompleteRead

import pytest
from playwright.sync_api import expect

from nexus.simulator import Settings, Simulator, in_thread
from nexus.simulator.faults import Cut
from nexus.testing.client import ask, chat
from nexus.testing.fleets import table_of

SECONDS = 15_000
PRIVACY = '\n[[routing.policies]]\nmodel_pattern = "secret"\nprivacy = "restricted"\n'


@pytest.fixture
def cloud():
    simulator = Simulator(Settings(name="cloud", kind="generic", models=("llama3", "secret"), answer_tokens=40))
    with in_thread(simulator):
        yield simulator


@pytest.fixture
def blocked(cloud, fleet, tmp_path):
    """A proxy before one cloud, which a policy keeps one of its models from."""
    table = table_of(cloud, type="generic", zone="open")
    with fleet(tmp_path, config=PRIVACY + table) as nexus:
        yield nexus


def streamed(nexus, model="llama3"):
    return ask(nexus.url, "/v1/chat/completions", chat(model, stream=True))


def test_a_stage_that_blocks_is_shown_above_a_fleet_that_is_well(blocked, open_page, picture):
    for _ in range(42):
        streamed(blocked, "secret")
    page = open_page(blocked.url)

    words = "privacy: 42 requests rejected in the last 5 minutes: "
    expect(page.locator("#rejections")).to_contain_text(words, timeout=SECONDS)
    row = page.locator("#request-rows tr").first
    expect(row).to_contain_text("rejected by privacy")
    expect(row.locator("td").nth(1)).not_to_have_text("cloud")
    picture(page, "rejections")


def test_a_stream_that_broke_is_a_failure_and_outlives_successes(blocked, cloud, open_page, picture):
    cloud.faults.set(Cut(times=1, after_events=4))
    with pytest.raises(IncompleteRead):
        streamed(blocked)
    for _ in range(150):
        ask(blocked.url, "/v1/chat/completions", chat("llama3"))
    page = open_page(blocked.url)

    page.get_by_label("Result").select_option("truncated")

    row = page.locator("#request-rows tr")
    expect(row).to_have_count(1, timeout=SECONDS)
    expect(row).to_contain_text("cut off after 200")
    page.get_by_label("Result").select_option("")
    expect(page.locator("#request-rows tr.failed")).to_have_count(1)
    picture(page, "failures")
