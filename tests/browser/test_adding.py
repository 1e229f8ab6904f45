"""A backend is added, drained and removed from the dashboard."""

import re

import pytest
from playwright.sync_api import expect

SECONDS = 10_000
KEYS = '[server]\napi_keys = ["env:CLIENT_KEY"]\n'
ENVIRON = {"CLIENT_KEY": "client-sesame", "ADMIN_KEY": "admin-sesame"}


@pytest.fixture
def spare(simulators):
    """A server that no proxy has been told of."""
    return simulators[2]


@pytest.fixture
def lonely(fleet, tmp_path, simulators):
    """A proxy before one server."""
    with fleet(tmp_path, simulators[0]) as nexus:
        yield nexus


def card(page, name):
    return page.locator("#cards .card").filter(has=page.get_by_role("heading", name=name, exact=True))


def opened(page):
    page.get_by_role("button", name="Add a backend").click()
    return page.get_by_role("dialog")


def unlocked(page, key):
    page.get_by_label("Key", exact=True).fill(key)
    page.get_by_role("button", name="Unlock").click()


def test_a_backend_is_added_and_removed(lonely, spare, open_page, picture):
    page = open_page(lonely.url)
    form = opened(page)
    form.get_by_label("Name").fill("spare")
    form.get_by_label("URL").fill(spare.url)
    form.locator("#add-kind").select_option("ollama")
    form.get_by_label("Tier").fill("3")
    form.get_by_label("Privacy zone").select_option("open")

    form.get_by_role("button", name="Add", exact=True).click()

    added = card(page, "spare")
    expect(added.locator(".status")).to_have_text("healthy", timeout=SECONDS)
    expect(added.locator("[data-fact=source]")).to_have_text("API")
    expect(added.locator("[data-fact=place]")).to_have_text("open, 3")
    expect(added.locator("[data-fact=kind]")).to_contain_text("ollama")
    expect(card(page, "gpu-1").locator("[data-fact=source]")).to_have_text("configuration")
    expect(card(page, "gpu-1").get_by_role("button", name="Remove")).to_have_count(0)
    picture(page, "added")
    added.get_by_role("button", name="Remove spare").click()
    asked = page.get_by_role("dialog")
    expect(asked).to_contain_text("It is the last healthy backend with gemma", timeout=SECONDS)
    asked.get_by_role("button", name="Remove").click()
    expect(added).to_have_count(0, timeout=SECONDS)


@pytest.mark.parametrize(
    ("label", "text", "told"),
    [
        ("Name", "", "expected 1 to 128 letters"),
        ("Name", "gpu-1", "another backend is named 'gpu-1' already"),
        ("URL", "10.0.0.9", "expected"),
        ("URL", "http://169.254.169.254", "leads to a link-local address"),
        ("Key, as a reference", "sk-of-my-own", "expected a reference to a secret, not the secret"),
        ("Key, as a reference", "env:NOT_SET_ANYWHERE", "the variable NOT_SET_ANYWHERE is not set"),
        ("Tier, 1 to 5", "6", "expected `int` <= 5"),
        ("Tier, 1 to 5", "high", "expected `int`, got `str`"),
    ],
)
def test_what_is_wrong_is_said_at_the_field(nexus, open_page, picture, label, text, told):
    page = open_page(nexus.url, errors_are_expected=True)
    form = opened(page)
    form.get_by_label("Name").fill("gpu-9")
    form.get_by_label("URL").fill("http://127.0.0.1:7")
    field = form.get_by_label(label)
    field.fill(text)

    field.press("Enter")

    expect(field).to_have_attribute("aria-invalid", "true", timeout=SECONDS)
    expect(field).to_have_accessible_description(re.compile(re.escape(told)))
    expect(field).to_be_focused()
    expect(page.locator("#add .wrong")).to_have_count(1)
    picture(page, "adding-refused")


def test_a_form_is_opened_filled_and_left_by_keyboard(lonely, spare, open_page):
    page = open_page(lonely.url)
    button = page.get_by_role("button", name="Add a backend")
    button.focus()

    page.keyboard.press("Enter")
    expect(page.get_by_label("Name")).to_be_focused()
    page.keyboard.press("Escape")
    expect(button).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.type("typed")
    page.keyboard.press("Tab")
    page.keyboard.type(spare.url)
    page.keyboard.press("Enter")

    expect(card(page, "typed").locator(".status")).to_have_text("healthy", timeout=SECONDS)


def test_the_last_with_a_model_is_drained_after_a_question_only(lonely, open_page):
    page = open_page(lonely.url)
    gpu = card(page, "gpu-1")
    expect(gpu.locator(".status")).to_have_text("healthy", timeout=SECONDS)
    asked = page.get_by_role("dialog")

    gpu.get_by_role("button", name="Drain gpu-1").click()
    expect(asked).to_contain_text("gpu-1 is the last healthy backend with llama3, qwen3", timeout=SECONDS)
    page.keyboard.press("Escape")
    expect(asked).to_have_count(0)
    stays = lonely.get_json("/admin/backends")["backends"][0]["status"]
    gpu.get_by_role("button", name="Drain gpu-1").click()
    asked.get_by_role("button", name="Drain").click()

    expect(gpu.locator(".status")).to_have_text("draining", timeout=SECONDS)
    assert stays == "healthy"


def test_a_backend_whose_models_others_have_is_drained_at_once(nexus, open_page):
    page = open_page(nexus.url)
    gpu = card(page, "gpu-2")
    expect(gpu.locator(".status")).to_have_text("healthy", timeout=SECONDS)

    gpu.get_by_role("button", name="Drain gpu-2").click()

    expect(gpu.locator(".status")).to_have_text("draining", timeout=SECONDS)
    gpu.get_by_role("button", name="Put back gpu-2").click()
    expect(gpu.locator(".status")).to_have_text("healthy", timeout=SECONDS)


def test_the_form_fits_a_phone(nexus, open_page, picture):
    page = open_page(nexus.url, width=320, height=568)

    form = opened(page)

    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    assert form.evaluate("e => [e.scrollWidth <= e.clientWidth, e.getBoundingClientRect().right <= 320]") == [
        True,
        True,
    ]
    form.get_by_role("button", name="Cancel").scroll_into_view_if_needed()
    expect(form.get_by_role("button", name="Cancel")).to_be_in_viewport()
    picture(page, "adding-on-a-phone", full_page=False)


def test_with_a_key_of_an_administrator_a_backend_is_added(fleet, tmp_path, simulators, spare, open_page):
    config = KEYS + 'admin_keys = ["env:ADMIN_KEY"]\n'
    with fleet(tmp_path, simulators[0], config=config, **ENVIRON) as nexus:
        page = open_page(nexus.url, errors_are_expected=True)
        unlocked(page, "admin-sesame")
        form = opened(page)
        form.get_by_label("Name").fill("spare")
        form.get_by_label("URL").fill(spare.url)

        form.get_by_role("button", name="Add", exact=True).click()

        expect(card(page, "spare").locator(".status")).to_have_text("healthy", timeout=SECONDS)


def test_a_client_of_many_is_told_why_it_may_not_add_one(fleet, tmp_path, simulators, open_page):
    with fleet(tmp_path, simulators[0], config=KEYS, **ENVIRON) as nexus:
        page = open_page(nexus.url, errors_are_expected=True)
        unlocked(page, "client-sesame")
        form = opened(page)
        form.get_by_label("Name").fill("mine")
        form.get_by_label("URL").fill("http://127.0.0.1:7")

        form.get_by_role("button", name="Add", exact=True).click()

        expect(page.locator("#add-wrong")).to_contain_text("set server.admin_keys to allow changes", timeout=SECONDS)
