"""The tables of a run."""

import pytest
from comparing import page
from comparing.figures import Figure, Measured
from comparing.lane import rotated
from comparing.lanes import LANES
from comparing.proxies import NEXUS, Proxy
from comparing.thresholds import judge


def measured(name, **figures):
    rounds = zip(*figures.values(), strict=True)
    return Measured(name, "", [dict(zip(map(Figure.__getitem__, figures), values, strict=True)) for values in rounds])


def rendered(*proxies, lanes=("short",)):
    by_name = {proxy.name: proxy for proxy in proxies}
    return page.rendered(
        page.Report(
            conditions=["On a machine."],
            lanes=[LANES[name] for name in lanes],
            proxies=[Proxy(proxy.name, "1.0", list, configured="a limit") for proxy in proxies],
            measured=by_name,
            verdicts=judge(by_name),
            micro="",
        )
    )


def test_a_neighbour_is_shown_with_the_ratio_to_it_and_its_range():
    text = rendered(measured(NEXUS, CPU_PER_REQUEST=[120, 130, 150]), measured("nginx", CPU_PER_REQUEST=[100] * 3))

    assert "   * - nginx\n     - 100 (1.30 x, 1.20 to 1.50)\n" in text


def test_a_figure_that_was_not_measured_of_a_proxy_is_a_dash():
    text = rendered(measured(NEXUS, CPU_PER_REQUEST=[120], ACCESS_LINES=[1]), measured("nginx", CPU_PER_REQUEST=[100]))

    assert "   * - nginx\n     - 100 (1.20 x)\n     - \\-\n" in text


def test_a_lane_of_nexus_alone_has_a_row_for_each_figure():
    text = rendered(measured(NEXUS, DECISION_2=[10], DECISION_100=[50]), lanes=("stages",))

    assert "   * - a decision, 2 backends x 20 models, µs\n     - 10.0\n" in text


def test_the_page_says_what_is_configured():
    assert "   * - nexus 1.0\n     - a limit\n" in rendered(measured(NEXUS, CPU_PER_REQUEST=[1]))


@pytest.mark.parametrize(("failures", "said"), [([0, 0], "none"), ([0, 2], "nginx 2")])
def test_failures_are_named(failures, said):
    text = rendered(measured(NEXUS, FAILED=[0, 0]), measured("nginx", FAILED=failures))

    assert f"Failed requests: {said}.\n" in text


def test_goals_are_reached_or_not_but_never_broken():
    text = rendered(measured(NEXUS, DECISION_100=[50]), lanes=("stages",))

    assert "     - at most 60\n     - 50.0: kept\n     - at most 30\n     - not reached\n" in text


def test_every_figure_of_a_promise_is_in_a_lane():
    shown = {figure for lane in LANES.values() for figure in lane.figures}
    promised = {limit.figure for limit, _ in judge({NEXUS: measured(NEXUS, FAILED=[0])})}

    assert promised - shown == {Figure.FAILED}


def test_each_proxy_is_the_first_in_some_round():
    targets = ["a", "b", "c"]

    assert [rotated(targets, number)[0] for number in range(4)] == ["a", "b", "c", "a"]
    assert all(sorted(rotated(targets, number)) == targets for number in range(4))
