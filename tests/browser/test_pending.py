"""Servers that announced themselves, as the dashboard shows them."""

import re
import subprocess
import sys
import uuid

import pytest
from playwright.sync_api import expect

from nexus.fleet.discovery.mdns.announcer import own_addresses
from nexus.simulator import Settings, Simulator, in_thread

pytestmark = pytest.mark.skipif(not own_addresses(), reason="this machine has no network")

SECONDS = 15_000
CONFIG = "[discovery]\nenabled = true\ninterval_seconds = 0.5\n"


@pytest.fixture
def announced():
    """Announce an Ollama, and give its name."""
    name = f"<b>desk {uuid.uuid4().hex[:8]}"
    with in_thread(simulator := Simulator(Settings(name="desk", kind="ollama", models=("llama3",), host="0.0.0.0"))):
        command = [sys.executable, "-m", "nexus", "announce", "--port", str(simulator.port), "--name", name]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert name in process.stdout.readline()
            yield name
            process.terminate()


@pytest.fixture
def looking(fleet, tmp_path):
    with fleet(tmp_path, config=CONFIG) as nexus:
        yield nexus


def test_a_found_server_waits_is_rejected_and_approved(announced, looking, open_page, picture):
    page = open_page(looking.url)
    row = page.locator("#pending-rows tr").filter(has_text=announced)
    expect(row).to_contain_text("ollama", timeout=SECONDS)
    expect(row).to_contain_text("mdns")
    picture(page, "pending")

    row.get_by_role("button", name="Reject").click()
    expect(row).to_have_class("is-rejected", timeout=SECONDS)
    row.get_by_role("button", name="Approve").click()

    card = page.locator("#cards .card").filter(has_text=announced)
    expect(card.locator(".status")).to_have_text("healthy", timeout=SECONDS)
    expect(row).to_have_count(0, timeout=SECONDS)
    expect(card.locator("[data-fact=source]")).to_have_text("mDNS")
    expect(card.locator("[data-fact=seen]")).to_have_text(re.compile(r"^\d+ s ago$"))
