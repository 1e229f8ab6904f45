"""The dashboard's files: few, our own, and known by type."""

import re

import pytest

from nexus.dashboard.assets import load_assets


@pytest.fixture(scope="module")
def assets():
    return load_assets()


def test_every_file_is_there_with_its_type(assets):
    assert {name: asset.content_type.partition(";")[0] for name, asset in assets.items()} == {
        "icon.svg": "image/svg+xml",
        "index.html": "text/html",
        "status.css": "text/css",
        "status.js": "text/javascript",
    }


def test_the_page_loads_nothing_but_its_own_files(assets):
    page = assets["index.html"].body.decode()

    loaded = re.findall(r'(?:src|href)="([^"]+)"', page)

    assert {path.removeprefix("assets/") for path in loaded} == assets.keys() - {"index.html"}


@pytest.mark.parametrize("name", ["index.html", "status.css", "status.js"])
def test_no_file_names_another_host(assets, name):
    assert b"//" not in assets[name].body.replace(b"// Keeps", b"")


def test_the_page_has_no_script_or_style_that_the_policy_would_refuse(assets):
    page = assets["index.html"].body.decode()

    assert re.findall(r"<script(?![^>]*\bsrc=)|<style|\bstyle=|\bon[a-z]+=", page) == []


def test_the_script_never_makes_html_of_text(assets):
    assert not re.search(rb"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", assets["status.js"].body)
