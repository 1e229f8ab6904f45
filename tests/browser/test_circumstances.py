"""The dashboard where something is not as usual: small, dark, without scripts, locked, cut off, lied to."""

import re
from contextlib import ExitStack

import pytest
from playwright.sync_api import expect

from nexus.simulator import Settings, Simulator, in_thread
from nexus.testing.client import ask, chat

SECONDS = 15_000
EVIL = '</script><img src=x onerror="document.title=666">'


@pytest.fixture
def one_server():
    simulator = Simulator(Settings(name="gpu-1", kind="vllm", models=("llama3",)))
    with in_thread(simulator):
        yield simulator


def test_a_phone_scrolls_in_one_direction_only(nexus, load, open_page, picture):
    page = open_page(nexus.url, width=320, height=640)
    expect(page.locator(".card")).to_have_count(4, timeout=SECONDS)
    expect(page.locator("#request-rows tr").first).to_be_visible(timeout=SECONDS)

    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    picture(page, "phone")


def test_it_is_dark_where_people_want_it_dark(nexus, load, open_page, picture):
    page = open_page(nexus.url, color_scheme="dark")
    expect(page.locator(".card")).to_have_count(4, timeout=SECONDS)

    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")

    assert sum(map(int, re.findall(r"\d+", ground)[:3])) < 150
    picture(page, "dark")


def test_without_scripts_there_is_a_table(nexus, open_page, picture):
    page = open_page(nexus.url, java_script_enabled=False)

    rows = page.locator("noscript table tbody tr, main table tbody tr")

    expect(rows.filter(has_text="gpu-1")).to_contain_text("healthy")
    expect(page.locator(".needs-script").first).not_to_be_visible()
    picture(page, "no-script")


def test_names_from_the_network_are_text(tmp_path, fleet, open_page):
    evil = Simulator(Settings(name="gpu-1", kind="vllm", models=(EVIL,)))
    with in_thread(evil), fleet(tmp_path, evil) as nexus:
        page = open_page(nexus.url)

        expect(page.locator("#model-rows th")).to_have_text(EVIL, timeout=SECONDS)
        assert page.title() == "Nexus"
        assert page.locator("img").count() == 0
        page.close()


def test_it_finds_back_after_the_proxy_was_restarted(tmp_path, fleet, one_server, open_page, monkeypatch):
    with ExitStack() as first:
        nexus = first.enter_context(fleet(tmp_path, one_server))
        page = open_page(nexus.url, errors_are_expected=True)
        expect(page.locator("#connection")).to_have_text("Live", timeout=SECONDS)
    expect(page.locator("#connection")).to_contain_text("Not connected", timeout=SECONDS)

    monkeypatch.setattr("tests.support.process.free_port", lambda: nexus.port)
    with fleet(tmp_path, one_server):
        expect(page.locator("#connection")).to_have_text("Live", timeout=2 * SECONDS)
        expect(page.locator(".card")).to_have_count(1)


def test_where_no_socket_can_be_had_it_polls(nexus, load, open_page):
    page = open_page("about:blank", errors_are_expected=True)
    page.add_init_script(
        "window.WebSocket = class extends EventTarget { constructor() { super();"
        " setTimeout(() => this.dispatchEvent(new Event('close'))); } close() {} }"
    )
    page.goto(nexus.url)

    expect(page.locator("#connection")).to_contain_text("Every 5 s", timeout=SECONDS)
    expect(page.locator(".card")).to_have_count(4)


def test_a_proxy_with_keys_asks_for_one_and_shows_nothing_before(tmp_path, fleet, one_server, open_page, picture):
    config = '[server]\napi_keys = ["env:CLIENT"]\nadmin_keys = ["env:ADMIN"]\n'
    with fleet(tmp_path, one_server, config=config, CLIENT="client-key", ADMIN="admin-key") as nexus:
        page = open_page(nexus.url, errors_are_expected=True)
        lock = page.get_by_role("dialog")
        expect(lock).to_contain_text("asks for a key", timeout=SECONDS)
        assert "gpu-1" not in page.content()
        picture(page, "locked", full_page=False)

        page.get_by_role("textbox", name="Key").fill("client-key")
        page.get_by_role("button", name="Unlock").click()
        expect(page.locator("#lock-wrong")).to_be_visible(timeout=SECONDS)
        page.get_by_role("textbox", name="Key").fill("admin-key")
        page.get_by_role("button", name="Unlock").click()

        expect(page.locator(".card")).to_have_count(1, timeout=SECONDS)
        expect(page.locator("#connection")).to_have_text("Live", timeout=SECONDS)


def test_nothing_is_loaded_from_elsewhere(nexus, open_page):
    page = open_page("about:blank")
    asked = []
    page.on("request", lambda request: asked.append(request.url))

    page.goto(nexus.url)
    expect(page.locator(".card")).to_have_count(4, timeout=SECONDS)

    assert [url for url in asked if not url.startswith(nexus.url)] == []


def test_the_budget_is_shown_with_its_spend_and_what_a_request_cost(tmp_path, fleet, one_server, open_page, picture):
    config = f"""
[store]
kind = "sqlite"
path = "{tmp_path / "nexus.sqlite3"}"

[plugins.budget]
monthly_limit_usd = 0.01
prices = [{{ backend = "gpu-1", input_usd_per_1m = 10, output_usd_per_1m = 30 }}]
"""
    with fleet(tmp_path, one_server, config=config) as nexus:
        ask(nexus.url, "/v1/chat/completions", chat("llama3"))
        page = open_page(nexus.url)

        expect(page.locator("#budget")).to_contain_text("of $0.01 in", timeout=SECONDS)
        expect(page.locator("#request-rows tr").first).to_contain_text("$0.000", timeout=SECONDS)
        expect(page.locator("#chart-spend svg")).to_have_attribute(
            "aria-label", re.compile(r"Spend this month: now \$0\.000"), timeout=2 * SECONDS
        )
        assert page.locator("#chart-spend .limit").count() == 1
        picture(page, "budget")
        page.close()


def test_a_big_fleet_is_shown_whole_in_the_order_in_which_people_count(tmp_path, fleet, open_page):
    many = [
        Simulator(Settings(name=f"gpu-{n}", kind="vllm", models=tuple(f"model-{n}-{i}" for i in range(5))))
        for n in range(100)
    ]
    with in_thread(*many), fleet(tmp_path, *many) as nexus:
        page = open_page(nexus.url)

        expect(page.locator(".card.is-healthy")).to_have_count(100, timeout=2 * SECONDS)
        expect(page.locator("#model-rows tr")).to_have_count(500, timeout=SECONDS)
        assert page.locator(".card h3").all_inner_texts()[:4] == ["gpu-0", "gpu-1", "gpu-2", "gpu-3"]
        page.close()


def test_where_only_administrators_have_keys_nobody_else_sees_the_fleet(tmp_path, fleet, one_server, open_page):
    with fleet(tmp_path, one_server, config='[server]\nadmin_keys = ["env:ADMIN"]\n', ADMIN="admin-key") as nexus:
        page = open_page(nexus.url, java_script_enabled=False)

        assert "gpu-1" not in page.content()
        expect(page.locator("#summary")).to_have_text("A key is needed to look at this proxy")


def test_with_several_workers_a_tile_says_how_many_have_answered(tmp_path, fleet, one_server, open_page):
    with fleet(tmp_path, one_server, config="[server]\nworkers = 2\n") as nexus:
        page = open_page(nexus.url)

        tile = page.locator("#tiles div").filter(has_text="Workers").locator("dd")

        expect(tile).to_have_text("2 of 2", timeout=SECONDS)
        page.close()
