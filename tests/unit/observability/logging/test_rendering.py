"""Colour is for terminals that support it, unless NO_COLOR is set."""

import pytest

from nexus.observability.logging.rendering import wants_colour


@pytest.mark.parametrize(
    ("environ", "is_terminal", "wanted"),
    [
        ({}, True, True),
        ({"TERM": "xterm-256color"}, True, True),
        ({"NO_COLOR": ""}, True, True),
        ({"NO_COLOR": "1"}, True, False),
        ({"NO_COLOR": "0"}, True, False),
        ({"TERM": "dumb"}, True, False),
        ({}, False, False),
    ],
)
def test_colour_is_wanted_on_a_terminal_unless_it_is_refused(environ, is_terminal, wanted):
    assert wants_colour(environ, is_terminal=is_terminal) is wanted
