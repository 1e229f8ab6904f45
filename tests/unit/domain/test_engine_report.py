import math

import pytest

from nexus.domain.backend_load import BackendLoad
from nexus.domain.engine_report import EngineReport

TOO_OLD = "too old, only requests of Nexus count"


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
        ("now", "weight"), [(100.0, 1.0), (103.0, 1.0), (105.0, math.exp(-1)), (111.0, math.exp(-4)), (113.0, 0.0)]
    )
    def test_they_fade_once_the_next_report_is_overdue(self, now, weight):
        assert report(running=8).other_requests(now) == pytest.approx(8 * weight)


class TestWords:
    @pytest.mark.parametrize(
        ("now", "words"),
        [
            (101.2, "reported 3 running, 2 waiting, 25% of its cache in use, 1.2 s ago"),
            (105.0, "reported 3 running, 2 waiting, 25% of its cache in use, 5.0 s ago: overdue, counts 37%"),
            (130.0, f"reported 3 running, 2 waiting, 25% of its cache in use, 30.0 s ago: {TOO_OLD}"),
        ],
    )
    def test_a_report_says_how_old_it_is_and_how_much_it_counts(self, now, words):
        assert report(running=3, waiting=2, kv_usage=0.25).in_words(now) == words

    def test_a_report_without_requests_says_so(self):
        told = report(loaded=frozenset({"llama3"})).in_words(101.0)

        assert told == "reported its models in memory, 1.0 s ago, but no requests: only those of Nexus count"

    def test_a_report_without_requests_says_what_would_help(self):
        load = BackendLoad()

        load.tell(report(loaded=frozenset({"llama3"})), "start it with --metrics")

        assert load.report_in_words(101.0).endswith("only those of Nexus count (start it with --metrics)")

    def test_a_load_without_a_report_says_why(self):
        load = BackendLoad()
        assert load.report_in_words(101.0) == "no report, only requests of Nexus count (not asked yet)"
        load.miss_report("start it with --metrics")
        assert load.report_in_words(101.0) == "no report, only requests of Nexus count (start it with --metrics)"


class TestRestarts:
    @pytest.mark.parametrize(
        ("before", "after", "has_restarted"),
        [
            ({"run": "1"}, {"run": "2"}, True),
            ({"run": "1"}, {"run": "1"}, False),
            ({"started_at": 1.0}, {"started_at": 2.0}, True),
            ({"served": 9.0}, {"served": 8.0}, True),
            ({"served": 9.0}, {"served": 9.0}, False),
            ({"run": "1", "started_at": 1.0, "served": 9.0}, {}, False),
            ({}, {"run": "1", "started_at": 1.0, "served": 9.0}, False),
        ],
    )
    def test_a_restart_shows_in_what_cannot_change_otherwise(self, before, after, has_restarted):
        assert report(**after).is_after_restart(report(**before)) is has_restarted


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
