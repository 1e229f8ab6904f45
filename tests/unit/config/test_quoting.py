"""Quoted values are short and harmless, and paths are quoted in full."""

from nexus.config.quoting import MAX_SHOWN, shown, shown_path


def test_a_long_value_is_cut():
    assert shown("x" * 200) == "x" * MAX_SHOWN + "…"


def test_control_characters_are_escaped():
    assert shown("a\x1b[31m") == shown_path("a\x1b[31m") == "a\\x1b[31m"


def test_a_path_is_whole():
    path = "/very" * 60 + "/gone.pem"

    assert shown_path(path) == path
