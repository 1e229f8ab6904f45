"""The dashboard's files: few, our own, with known types."""

import re

import pytest

from nexus.dashboard.assets import load_assets

ASSETS = load_assets()
SCRIPTS = sorted(name for name in ASSETS if name.endswith(".js"))
SVG_NAMESPACE = b"http://www.w3.org/2000/svg"


def test_every_file_has_the_type_of_its_name():
    types = {name.rpartition(".")[2]: asset.content_type.partition(";")[0] for name, asset in ASSETS.items()}

    assert types == {"svg": "image/svg+xml", "html": "text/html", "css": "text/css", "js": "text/javascript"}


def test_all_of_them_together_load_quickly():
    assert sum(len(asset.body) for asset in ASSETS.values()) < 200_000


def test_every_file_is_loaded_by_the_page_or_by_a_script_and_nothing_else_is():
    page = ASSETS["index.html"].body.decode()
    scripts = b"".join(ASSETS[name].body for name in SCRIPTS).decode()

    by_page = re.findall(r'(?:src|href)="([^"#]+)"', page)
    by_script = re.findall(r'from "\./([^"]+)"', scripts)

    assert {path.removeprefix("assets/") for path in by_page} | set(by_script) == ASSETS.keys() - {"index.html"}


@pytest.mark.parametrize("name", ASSETS)
def test_no_file_names_another_host(name):
    named = re.findall(rb"(?:https?:)?//[\w.-]+\.\w+[^\s\"']*", ASSETS[name].body)

    assert set(named) <= {SVG_NAMESPACE}


def test_the_page_has_no_script_or_style_that_the_policy_would_refuse():
    page = ASSETS["index.html"].body.decode()

    assert re.findall(r"<script(?![^>]*\bsrc=)|<style|\bstyle=|\bon[a-z]+=", page) == []


@pytest.mark.parametrize("name", SCRIPTS)
def test_no_script_makes_html_of_text(name):
    made = re.search(
        rb"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", ASSETS[name].body
    )

    assert made is None


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_element_that_a_script_looks_up_is_on_the_page(name):
    page = ASSETS["index.html"].body.decode()
    wanted = set(re.findall(r'(?:byId|wanted)\("([^"]+)"\)', ASSETS[name].body.decode()))

    assert wanted <= set(re.findall(r'\bid="([^"]+)"', page))
