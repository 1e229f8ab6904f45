"""Options may stand before or after a command."""

import click
from hypothesis import given
from hypothesis import strategies as st

from nexus.cli.arguments.option_order import command_first, left_over
from nexus.cli.commands.backends import command as backends
from nexus.cli.main import main

OPTIONS = (
    ("--url", "http://a"),
    ("--url=http://b",),
    ("--json",),
    ("-c", "backends"),
    ("--set", "routing.strategy=drain"),
    ("-p", "81"),
    ("-p82",),
    ("--insecure",),
)
options = st.lists(st.sampled_from(OPTIONS), max_size=4)
context = click.Context(main, info_name="nexus-proxy")


def flat(groups):
    return [word for group in groups for word in group]


@given(options, options, options, options)
def test_options_may_stand_anywhere(first, second, third, fourth):
    args = [*flat(first), "backends", *flat(second), "drain", *flat(third), "gpu-1", *flat(fourth)]

    in_order = command_first(main, context, args)

    assert in_order == [
        *("backends", "drain"),
        *flat(first),
        *flat(second),
        *flat(third),
        "gpu-1",
        *flat(fourth),
    ]


@given(options, options)
def test_a_group_without_a_subcommand_keeps_all_options(before, after):
    assert command_first(main, context, [*flat(before), "models", *flat(after)]) == [
        "models",
        *flat(before),
        *flat(after),
    ]


@given(st.lists(st.text(max_size=8), max_size=5))
def test_any_command_line_can_be_reordered(args):
    in_order = command_first(main, context, args)

    assert in_order is None or sorted(in_order) == sorted(args)


def test_the_value_of_an_option_is_no_command():
    assert command_first(main, context, ["--config", "backends"]) is None
    assert command_first(main, context, ["--config", "backends", "models"]) == ["models", "--config", "backends"]


def test_what_is_left_over_begins_with_the_first_word():
    assert left_over(backends, context, ["--json", "--url", "x", "drain", "y"]) == ["drain", "y"]
    assert left_over(backends, context, ["--no-such-option"]) is None
