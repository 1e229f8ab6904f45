"""The series of a plugin are limited, and no counter ever decreases."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexus.observability.metrics.plugin_series import PluginSeries


def counters(max_series=2):
    return PluginSeries(("model",), is_counter=True, max_series=max_series)


def of(**values):
    return {(name,): value for name, value in values.items()}


def test_series_within_the_limit_are_exposed_unchanged():
    series = counters()

    assert series.exposed(of(a=1, b=2)) == of(a=1, b=2)
    assert series.left_out == 0


def test_counters_beyond_the_limit_are_summed_up():
    series = counters()

    assert series.exposed(of(a=1, b=2, c=3, d=4)) == of(a=1, b=2, other=7)
    assert series.left_out == 2


def test_gauges_beyond_the_limit_are_omitted():
    series = PluginSeries(("model",), is_counter=False, max_series=2)

    assert series.exposed(of(a=1, b=2, c=3)) == of(a=1, b=2)
    assert series.left_out == 1


def test_the_exposed_series_do_not_depend_on_their_order():
    series = counters()
    series.exposed(of(a=1, b=1, c=1))

    assert series.exposed(of(c=9, b=1, a=1)) == of(a=1, b=1, other=9)


def test_a_series_that_is_gone_makes_room_and_other_never_decreases():
    series = counters()
    series.exposed(of(a=1, b=1, c=5))

    assert series.exposed(of(b=1, c=5, d=2)) == of(b=1, d=2, other=5)
    assert series.exposed(of(a=4, b=1, c=5, d=2)) == of(b=1, d=2, other=8)


def test_a_label_named_other_is_part_of_other():
    assert counters().exposed(of(other=3)) == of(other=3)


def test_a_counter_that_restarts_continues():
    series = counters()
    series.exposed(of(a=5))

    assert series.exposed(of(a=2)) == of(a=7)
    assert series.exposed(of(a=3)) == of(a=8)


def test_a_series_that_returns_continues():
    series = counters()
    series.exposed(of(a=5))
    series.exposed(of(b=1))

    assert series.exposed(of(a=1, b=1)) == of(a=6, b=1)


def test_a_series_that_a_reload_removes_is_exposed_until_it_is_reported_again():
    series = counters()
    series.exposed(of(a=5, b=1))

    series.restart(of(b=1))

    assert series.exposed(of(b=1)) == of(a=5, b=1)
    assert series.exposed(of(a=2, b=1)) == of(a=7, b=1)


def test_a_gauge_may_decrease():
    series = PluginSeries((), is_counter=False)
    series.exposed({(): 5})

    assert series.exposed({(): 2}) == {(): 2}


@pytest.mark.parametrize("endless", [float("inf")])
def test_an_infinite_count_stays_infinite(endless):
    series = counters()
    series.exposed(of(a=endless))

    assert series.exposed(of(a=1)) == of(a=endless)


names = st.sampled_from("abcdef")
scrapes = st.lists(st.tuples(st.booleans(), st.dictionaries(names, st.integers(0, 5), max_size=6)), max_size=12)


@settings(max_examples=200, deadline=None)
@given(scrapes, st.integers(0, 3))
def test_no_counter_decreases_and_no_count_is_lost(steps, most):
    """Each step adds to counters, some after a restart from 0, and tells those that it names."""
    series, raw, added, seen = counters(most), {}, 0, {}
    for is_reload, more in steps:
        if is_reload:
            series.exposed(of(**raw))
            raw = {}
            series.restart({})
        for name, count in more.items():
            raw[name] = raw.get(name, 0) + count
            added += count

        exposed = series.exposed(of(**raw))

        assert all(exposed[key] >= value for key, value in seen.items() if key in exposed)
        assert len(exposed) <= most + 1
        assert sum(exposed.values()) == added
        seen = {**seen, **exposed}
