"""Which commands start again for their memory: the one that runs for long."""

import sys

import pytest

from nexus.app.process import huge_pages


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], True),
        (["serve"], True),
        (["--config", "nexus.toml"], True),
        (["check"], False),
        (["--config", "nexus.toml", "check"], False),
        (["--help"], False),
        (["serve", "--help"], False),
        (["--version"], False),
        (["a-plugin's-command"], False),
    ],
)
def test_only_the_proxy_starts_again(monkeypatch, run, words, expected):
    started = []
    monkeypatch.setattr(sys, "argv", ["nexus-proxy", *words])
    monkeypatch.setattr(huge_pages, "start_again", lambda: started.append(True))

    run("--version")

    assert started == [True] * expected
