"""The order of the stages, and which stages are refused."""

import pytest

from nexus.errors import ConfigError, PluginError
from nexus.routing.core_stages.analyze import Analyze
from nexus.routing.core_stages.schedule import Schedule
from nexus.routing.stage.order import in_order

BUILT_IN = (Schedule(), Analyze())


@pytest.fixture
def order(plugin):
    """Give a function that orders stages, each from a plugin of the same name."""

    def ordered(*stages, **operator):
        return in_order(BUILT_IN, [(plugin(getattr(s, "name", "night")), s) for s in stages], **operator)

    return ordered


def names(places):
    return [place.name for place in places]


def refused(error, call, *args, **kwargs) -> str:
    with pytest.raises(error) as caught:
        call(*args, **kwargs)
    return str(caught.value)


def test_the_number_decides_and_then_the_name(order, stage):
    places = order(stage(name="b", priority=300), stage(name="a", priority=300), stage(name="z", priority=200))

    assert names(places) == ["analyze", "z", "a", "b", "schedule"]
    assert [(p.priority, p.plugin) for p in places][:2] == [(0, "built in"), (200, "z")]


def test_the_operator_has_the_last_word(order, stage):
    places = order(stage(name="a", priority=300), stage(name="b", priority=200), priorities={"a": 100})

    assert names(places) == ["analyze", "a", "b", "schedule"]
    assert [p.is_overridden for p in places] == [False, True, False, False]
    assert places[1].declared_priority == 300


def test_a_stage_can_be_told_to_observe_only(order, stage):
    places = order(stage(name="budget", priority=300), observe=("budget",))

    assert [p.observes for p in places] == [False, True, False]


def test_a_missing_priority_is_refused_with_the_standard_ones(order, stage):
    message = refused(PluginError, order, stage(name="night", priority=None))

    assert message == (
        "stage 'night' of plugin 'night' declares no priority; give it an int"
        " (standard stages: analyze 0, privacy 200, budget 300, …, schedule 1000)"
    )


@pytest.mark.parametrize("priority", ["250", 2.5, True])
def test_a_priority_that_is_no_int_is_refused(order, stage, priority):
    assert "declares no priority" in refused(PluginError, order, stage(name="night", priority=priority))


def test_two_stages_of_one_name_are_refused(plugin, stage):
    both = [(plugin("tier"), stage(name="tier")), (plugin("acme"), stage(name="tier"))]

    message = refused(PluginError, in_order, BUILT_IN, both)

    assert message == "plugins 'acme' and 'tier' both provide a stage named 'tier'; disable one of them"


def test_one_plugin_cannot_provide_two_stages_of_one_name(plugin, stage):
    both = [(plugin("tier"), stage(name="tier")), (plugin("tier"), stage(name="tier"))]

    assert refused(PluginError, in_order, BUILT_IN, both) == "plugin 'tier' provides two stages named 'tier'"


def test_a_built_in_name_is_taken(order, stage):
    message = refused(PluginError, order, stage(name="schedule"))

    assert message == "plugin 'schedule' provides a stage named 'schedule', which is built in; rename it"


async def _async(*_):
    """Decide nothing, slowly."""


def _in_pieces(*_):
    yield


def test_measures_may_come_in_pieces(order, stage):
    assert order(stage(name="night", measures=_in_pieces))


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ({"name": ""}, "declares no name"),
        ({"on_error": "ignore"}, "declares on_error = 'ignore'; it must be 'reject' or 'skip'"),
        ({"reconcile": _async}, "is async in reconcile; stages decide synchronously"),
        ({"reserve": _async}, "is async in reserve; stages decide synchronously"),
        ({"measures": _async}, "is async in measures; stages decide synchronously"),
        ({"reconcile": _in_pieces}, "is async in reconcile; stages decide synchronously"),
        ({"reconcile": lambda: None}, "has a reconcile that cannot be called with (intent)"),
        ({"reserve": lambda intent: None}, "has a reserve that cannot be called with (intent, backend)"),
        ({"explain": dict}, "has a explain that cannot be called with (intent)"),
        ({"measures": lambda intent: ()}, "has a measures that cannot be called with (nothing)"),
        ({"reconcile": None}, "has a reconcile that cannot be called"),
        ({"name": "two words"}, "is named 'two words'; a name is up to 64 letters"),
        ({"name": "x\r\nSet-Cookie"}, "a name is up to 64 letters"),
        ({"name": "x" * 65}, "a name is up to 64 letters"),
    ],
)
def test_what_is_no_proper_stage_is_refused(order, stage, declared, expected):
    assert expected in refused(PluginError, order, stage(**{"name": "night", **declared}))


def test_what_is_no_stage_at_all_is_refused(order):
    message = refused(PluginError, order, "night")

    assert message.startswith("plugin 'night' (nexus-proxy-night 1.0): nexus_reconcilers must give instances")


@pytest.mark.parametrize(
    ("operator", "expected"),
    [
        ({"priorities": {"pirvacy": 1}}, "[routing] priorities: no stage is named 'pirvacy'; did you mean 'privacy'?"),
        ({"observe": ["zzz"]}, "[routing] observe: no stage is named 'zzz'"),
        ({"observe": ["schedule"]}, "[routing] observe: 'schedule' cannot only observe, nothing is routed without it"),
    ],
)
def test_the_operator_must_speak_of_stages_that_there_are(order, stage, operator, expected):
    message = refused(ConfigError, order, stage(name="privacy", priority=200), **operator)

    assert message == f"nexus.toml: {expected}"


def test_a_stage_knows_whether_it_only_observes(order, stage):
    acting, observing = stage(name="acting"), stage(name="observing")

    order(acting, observing, observe=("observing",))

    assert (acting.is_observed, observing.is_observed) == (False, True)
