"""The page in a browser: a row per backend without a script, and every name escaped."""

from html.parser import HTMLParser

import pytest

from nexus.dashboard.assets import load_assets
from nexus.dashboard.front_page import status_page
from nexus.domain.backend import Status
from nexus.testing.builders import make_backend, make_fleet

EVIL = "<img src=x onerror=alert(1)>\"'&$rows${summary}"


@pytest.fixture
def shown():
    template = load_assets()["index.html"].body.decode()

    def show(snapshot, **times):
        page = status_page(template, snapshot, **{"uptime_s": 3661, "now_unix_s": 100, **times})
        reader = Reader()
        reader.feed(page.body.decode())
        return page, reader

    return show


class Reader(HTMLParser):
    """What a browser would see: the elements, their attributes and the text."""

    def __init__(self):
        super().__init__()
        self.elements = []
        self.texts = []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.texts.append(data.strip())


def test_a_backend_is_a_row(shown):
    _, page = shown(make_fleet(make_backend(kind="ollama", models=("qwen3", "llama3"), last_check_at=88.2)))

    text = " | ".join(filter(None, page.texts))
    assert "gpu-1 | healthy | ollama | 0 of 64 | 12 s ago | llama3, qwen3" in text
    assert "healthy: 1 of 1 backends, 2 models, up 1:01:01" in text


def test_a_fleet_without_backends_says_so(shown):
    _, page = shown(make_fleet())

    assert "No backends configured" in page.texts


def test_the_last_error_is_at_hand(shown):
    _, page = shown(make_fleet(make_backend(status=Status.UNHEALTHY, last_error="connection refused")))

    assert ("span", {"class": "status unhealthy", "title": "connection refused"}) in page.elements


def test_names_that_are_html_are_shown_as_text(shown):
    _, page = shown(make_fleet(make_backend(EVIL, models=(EVIL,), last_error=EVIL, status=Status.UNHEALTHY)))

    assert [tag for tag, _ in page.elements if tag == "img"] == []
    assert page.texts.count(EVIL) == 2
    assert {"class": "status unhealthy", "title": EVIL} in [attrs for _, attrs in page.elements]


def test_a_name_that_is_no_unicode_breaks_nothing(shown):
    page, _ = shown(make_fleet(make_backend("\udcff")))

    assert page.status == 200


def test_only_our_own_scripts_run_and_no_page_may_frame_ours(shown):
    page, _ = shown(make_fleet())

    policy = page.headers["Content-Security-Policy"].split("; ")
    assert {"default-src 'self'", "frame-ancestors 'none'"} <= set(policy)


def test_a_clock_that_was_set_back_shows_no_future(shown):
    _, page = shown(make_fleet(make_backend(last_check_at=500.0)))

    assert "0 s ago" in page.texts
