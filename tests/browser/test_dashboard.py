"""What somebody sees who opens the dashboard of a fleet under load."""

import re

from playwright.sync_api import expect

SECONDS = 15_000


def card(page, name):
    return page.locator(".card").filter(has=page.get_by_role("heading", name=name, exact=True))


def test_the_fleet_is_shown_as_cards_the_sick_first(nexus, load, open_page, picture):
    page = open_page(nexus.url)

    expect(page.locator("#connection")).to_have_text("Live", timeout=SECONDS)
    expect(page.locator(".card")).to_have_count(4)
    expect(page.locator(".card h3").first).to_have_text("attic")
    expect(card(page, "gpu-1")).to_contain_text("healthy for")
    expect(card(page, "attic")).to_contain_text(re.compile("connection failed|refused"))
    expect(card(page, "gpu-1")).to_contain_text(re.compile(r"First token p50, p95\s*\d+ ms, \d+ ms"), timeout=SECONDS)
    picture(page, "fleet")


def test_figures_move_by_themselves(nexus, load, open_page):
    page = open_page(nexus.url)
    requests = page.locator("#tiles > div").filter(has_text="Requests").locator("dd")
    expect(requests).to_be_visible(timeout=SECONDS)

    before = int(requests.inner_text().replace(",", ""))

    expect(requests).not_to_have_text(f"{before:,}", timeout=SECONDS)


def test_charts_are_painted_with_axes_units_and_words(nexus, load, open_page, picture):
    page = open_page(nexus.url)
    chart = page.locator("#chart-requests svg")

    expect(chart.locator("path.first")).to_have_attribute("d", re.compile(r"^M\d"), timeout=SECONDS)
    expect(chart).to_have_attribute("aria-label", re.compile("Requests per second: now .*; highest in the last hour"))
    # As many as the figures and the hour need: in a narrow chart, only half hours are written.
    assert chart.locator("text.axis[text-anchor=end]").count() >= 2
    assert chart.locator("text.axis[text-anchor=middle]").count() >= 1
    picture(page, "charts")


def test_a_chart_tells_the_value_under_the_pointer_and_under_the_arrow_keys(nexus, load, open_page):
    page = open_page(nexus.url)
    chart = page.locator("#chart-requests svg")
    tip = page.locator("#chart-requests .tip")
    expect(chart.locator("path.first")).to_have_attribute("d", re.compile(r"^M\d"), timeout=SECONDS)

    chart.hover()
    expect(tip).to_contain_text(re.compile(r"\d+:\d\d.*all"))
    page.mouse.move(0, 0)
    expect(tip).to_be_empty()
    chart.focus()
    page.keyboard.press("ArrowLeft")
    expect(tip).to_contain_text("all")


def test_the_models_are_listed_with_what_they_can_and_who_has_them(nexus, open_page):
    page = open_page(nexus.url)
    row = page.locator("#model-rows tr").filter(has_text="llama3")

    expect(row).to_contain_text("gpu-1", timeout=SECONDS)
    expect(row).to_contain_text("gpu-2")
    page.get_by_label("Find").nth(1).fill("qwen")
    expect(page.locator("#model-rows tr")).to_have_count(1)


def test_a_request_opens_the_decision_behind_it(nexus, load, open_page, picture):
    page = open_page(nexus.url)
    row = page.locator("#request-rows tr").filter(has_text="llama3").first
    expect(row).to_be_visible(timeout=SECONDS)
    page.get_by_role("button", name="Pause").click()

    row.get_by_role("button").click()

    drawer = page.get_by_role("dialog")
    expect(drawer).to_contain_text("is asked for llama3", timeout=SECONDS)
    expect(drawer).to_contain_text("analyze")
    expect(drawer).to_contain_text("Ranking")
    picture(page, "decision", full_page=False)
    page.keyboard.press("Escape")
    expect(drawer).not_to_be_visible()


def test_a_request_can_be_explained_before_it_is_sent(nexus, open_page):
    page = open_page(nexus.url)
    expect(page.locator(".card")).to_have_count(4, timeout=SECONDS)

    page.get_by_label("Model", exact=True).fill("qwen3")
    page.get_by_label(re.compile("Further members")).fill('{"messages": [{"role": "user", "content": "hello"}]}')
    page.get_by_role("button", name="Explain").click()

    drawer = page.get_by_role("dialog")
    expect(drawer).to_contain_text("gpu-1 is asked for qwen3", timeout=SECONDS)
    expect(drawer.locator(".known dd").first).to_contain_text("in flight")


def test_a_body_that_is_no_json_is_refused_in_words(nexus, open_page):
    page = open_page(nexus.url)
    expect(page.locator(".card")).to_have_count(4, timeout=SECONDS)

    page.get_by_label("Model", exact=True).fill("qwen3")
    page.get_by_label(re.compile("Further members")).fill("{oops")
    page.get_by_role("button", name="Explain").click()

    expect(page.get_by_role("dialog")).to_contain_text("JSON", timeout=SECONDS)


def test_a_backend_is_drained_and_put_back_from_its_card(nexus, open_page):
    page = open_page(nexus.url)
    laptop = card(page, "laptop")
    expect(laptop).to_contain_text("healthy", timeout=SECONDS)

    laptop.get_by_role("button", name="Drain laptop").click()
    asked = page.get_by_role("dialog")
    expect(asked).to_contain_text(
        "laptop is the last healthy backend with gemma:latest, nomic-embed-text:latest", timeout=SECONDS
    )
    asked.get_by_role("button", name="Drain").click()
    expect(laptop).to_contain_text("draining", timeout=SECONDS)
    laptop.get_by_role("button", name="Put back laptop").click()

    expect(laptop).to_contain_text("healthy", timeout=SECONDS)


def test_requests_can_be_narrowed_to_failures(nexus, load, open_page):
    page = open_page(nexus.url)
    load.ask("nobody-has-this")

    page.get_by_label("Only failures").check()

    row = page.locator("#request-rows tr").first
    expect(row).to_contain_text("nobody-has-this", timeout=SECONDS)
    expect(row).to_contain_text("404 model not found")


def test_plugins_are_listed(nexus, open_page):
    page = open_page(nexus.url)

    row = page.locator("#plugin-rows tr").filter(has_text="nexus-proxy-privacy")

    expect(row).to_contain_text("privacy (200)", timeout=SECONDS)
    expect(row).to_contain_text("enabled")


def test_everything_can_be_reached_by_the_keyboard(nexus, open_page):
    page = open_page(nexus.url)
    expect(page.locator(".card")).to_have_count(4, timeout=SECONDS)

    reached = set()
    for _ in range(250):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.textContent.trim()"))

    assert {"Skip to the fleet", "Models", "fleet-find", "Drain", "requests-pause", "explain-model"} <= reached
