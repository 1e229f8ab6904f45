import math

import pytest

from nexus.domain.backend import BackendLoad
from nexus.domain.engine_report import EngineReport


def report(**figures):
    return EngineReport(at=100.0, due_at=103.0, **figures)


class TestRequestsOfOthers:
    def test_what_exceeds_our_own_belongs_to_others(self):
        assert report(running=5, waiting=2, own_requests=3).other_requests(101.0) == 4.0

    def test_our_own_may_be_on_their_way_and_not_counted_there_yet(self):
        assert report(running=1, own_requests=3).other_requests(101.0) == 0.0

    def test_without_figures_there_are_none(self):
        assert report(kv_usage=0.5).requests is None
        assert report(kv_usage=0.5).other_requests(101.0) == 0.0

    @pytest.mark.parametrize(
        ("now", "weight"), [(100.0, 1.0), (103.0, 1.0), (105.0, math.exp(-1)), (113.0, math.exp(-5))]
    )
    def test_they_fade_once_the_next_report_is_overdue(self, now, weight):
        assert report(running=8).other_requests(now) == pytest.approx(8 * weight)


class TestLoad:
    def test_tokens_are_released_in_two_parts(self):
        load = BackendLoad()
        load.acquire(900, 100)
        assert (load.in_flight, load.prompt_tokens, load.answer_tokens) == (1, 900, 100)
        load.finish_prompt(900)
        assert (load.in_flight, load.prompt_tokens, load.answer_tokens) == (1, 0, 100)
        load.release(100)
        assert (load.in_flight, load.prompt_tokens, load.answer_tokens) == (0, 0, 0)

    def test_what_was_reported_before_a_restart_is_forgotten(self):
        load = BackendLoad()
        load.tell(report(running=8))
        assert load.other_requests(101.0) == 8.0
        load.restarted()
        assert (load.told, load.restarts, load.other_requests(101.0)) == (None, 1, 0.0)
