"""What is in the memory of a backend, as it reports or as its answers show, and what does not fit together."""

import pytest

from nexus.domain.engine_report import EngineReport
from nexus.domain.residency import Presence, crowding, end_load, max_loaded, next_in_place_of, presence, residents
from nexus.testing.builders import make_backend


def backend(**fields):
    return make_backend("mac", kind="ollama", models=("a", "b", "c"), **fields)


def report(at, *loaded, **figures):
    return EngineReport(at=at, due_at=at + 5, loaded=frozenset(loaded), **figures)


def answered(subject, model, at):
    subject.load.model(model).progressed_at = at
    subject.load.model(model).used_at = at


def begin(subject, model, at, waits_for=None, *, is_certain=True):
    return subject.load.memory.begin(model, at, waits_for, is_certain=is_certain)


class TestPresence:
    def test_without_a_report_and_an_answer_nothing_is_known(self):
        assert presence(backend(), "a", 100.0) is Presence.UNKNOWN

    def test_a_report_shows_what_is_in_memory_and_what_is_not(self):
        subject = backend()
        subject.load.tell(report(100.0, "a", loading=frozenset({"b"})))

        found = [presence(subject, model, 101.0) for model in ("a", "b", "c")]

        assert found == [Presence.IN_MEMORY, Presence.LOADING, Presence.ABSENT]

    def test_a_report_of_other_names_shows_nothing(self):
        subject = backend()
        subject.load.tell(report(100.0, "/models/a.gguf"))

        assert presence(subject, "a", 101.0) is Presence.UNKNOWN

    def test_an_old_report_shows_nothing(self):
        subject = backend()
        subject.load.tell(report(100.0, "a"))

        assert presence(subject, "a", 136.0) is Presence.UNKNOWN

    def test_an_answer_after_the_report_shows_more(self):
        subject = backend()
        subject.load.tell(report(100.0))
        answered(subject, "a", 101.0)

        assert presence(subject, "a", 102.0) is Presence.IN_MEMORY

    def test_a_report_after_the_answer_shows_that_the_model_has_left(self):
        subject = backend()
        answered(subject, "a", 100.0)
        subject.load.tell(report(101.0))

        assert presence(subject, "a", 102.0) is Presence.ABSENT

    def test_an_answer_shows_it_for_as_long_as_servers_keep_models(self):
        subject = backend()
        answered(subject, "a", 100.0)

        assert presence(subject, "a", 339.0) is Presence.IN_MEMORY
        assert presence(subject, "a", 341.0) is Presence.UNKNOWN

    def test_a_load_under_way_ends_with_the_first_content_or_the_last_request(self):
        subject = backend()
        first, second = begin(subject, "a", 100.0), begin(subject, "a", 101.0)
        abandoned = begin(subject, "b", 100.0)

        subject.load.memory.give_up(abandoned)
        during = [presence(subject, model, 102.0) for model in ("a", "b")]
        answered(subject, "a", 112.0)
        end_load(subject, first, 112.0)

        assert first is second
        assert during == [Presence.LOADING, Presence.UNKNOWN]
        assert presence(subject, "a", 112.0) is Presence.IN_MEMORY
        assert first.took_s == 12.0

    def test_a_restart_empties_the_memory(self):
        subject = backend()
        answered(subject, "a", 100.0)
        subject.load.tell(report(99.0, "a", "b"))

        subject.load.restarted()

        assert [presence(subject, model, 101.0) for model in ("a", "b")] == [Presence.UNKNOWN] * 2


class TestRoom:
    @pytest.mark.parametrize(
        ("configured", "reported", "found"), [(None, None, None), (None, 3, 3), (2, 3, 2), (2, None, 2)]
    )
    def test_the_operator_knows_best_how_many_models_fit(self, configured, reported, found):
        subject = backend(max_loaded_models=configured)
        subject.load.tell(report(100.0, max_loaded=reported))

        assert max_loaded(subject) == found

    def test_where_nothing_is_known_there_is_room(self):
        subject = backend()
        subject.load.tell(report(100.0, "a"))
        subject.load.model("a").in_flight = 3

        assert crowding(subject, "b", 101.0) == []

    def test_a_model_in_use_is_in_the_way_and_an_idle_one_is_not(self):
        subject = backend(max_loaded_models=1)
        subject.load.tell(report(100.0, "a"))

        idle = crowding(subject, "b", 101.0)
        subject.load.model("a").in_flight = 1
        used = crowding(subject, "b", 101.0)

        assert (idle, used) == ([], ["a"])

    def test_a_model_that_is_being_loaded_is_in_the_way(self):
        subject = backend(max_loaded_models=1)
        begin(subject, "a", 100.0)

        assert crowding(subject, "b", 101.0) == ["a"]

    def test_a_model_that_left_when_another_came_does_not_fit_beside_it(self):
        subject = backend()
        subject.load.tell(report(100.0, "a"))
        answered(subject, "a", 104.0)
        subject.load.tell(report(105.0, "b"))
        subject.load.model("b").in_flight = 1

        assert crowding(subject, "a", 106.0) == ["b"]
        assert crowding(subject, "c", 106.0) == []

    def test_a_model_that_leaves_while_another_is_loading_does_not_fit_beside_it(self):
        subject = backend()
        subject.load.tell(report(100.0, "a"))
        answered(subject, "a", 104.0)
        begin(subject, "b", 104.5)
        subject.load.tell(report(105.0))

        assert subject.load.memory.are_apart("a", "b")

    def test_a_model_that_expired_unused_may_fit_beside_the_other(self):
        subject = backend()
        subject.load.tell(report(100.0, "a"))
        answered(subject, "a", 104.0)
        subject.load.tell(report(404.0, "b"))
        subject.load.model("b").in_flight = 1

        assert crowding(subject, "a", 405.0) == []

    def test_models_that_are_seen_together_do_fit(self):
        subject = backend()
        subject.load.tell(report(100.0, "a"))
        answered(subject, "a", 104.0)
        subject.load.tell(report(105.0, "b"))
        subject.load.tell(report(110.0, "a", "b"))

        assert not subject.load.memory.are_apart("a", "b")

    def test_with_a_known_limit_the_longest_unused_model_is_evicted(self):
        subject = backend(max_loaded_models=2)
        for model, at in (("a", 100.0), ("b", 110.0)):
            answered(subject, model, at)
        load = begin(subject, "c", 111.0)

        answered(subject, "c", 120.0)
        end_load(subject, load, 120.0)

        assert presence(subject, "a", 121.0) is Presence.ABSENT
        assert residents(subject, 121.0) == ["b", "c"]


class TestGivingWay:
    """Models a and b, of which a was seen to leave at 105 when b came."""

    @pytest.fixture
    def subject(self):
        subject = backend()
        subject.load.tell(report(100.0, "a"))
        answered(subject, "a", 104.0)
        subject.load.tell(report(105.0, "b"))
        return subject

    def test_a_model_has_left_once_one_that_does_not_fit_beside_it_has_answered(self, subject):
        answered(subject, "a", 108.0)
        before = presence(subject, "a", 109.0)
        answered(subject, "b", 110.0)

        assert before is Presence.IN_MEMORY
        assert [presence(subject, model, 111.0) for model in ("a", "b")] == [Presence.ABSENT, Presence.IN_MEMORY]

    def test_the_answer_shows_more_than_the_report_before_it(self, subject):
        subject.load.tell(report(110.0, "a"))
        before = presence(subject, "a", 111.0)
        answered(subject, "b", 112.0)

        assert (before, presence(subject, "a", 113.0)) == (Presence.IN_MEMORY, Presence.ABSENT)

    def test_a_stream_that_began_before_and_still_flows_shows_no_swap(self, subject):
        answered(subject, "b", 107.0)
        subject.load.model("b").flowing = 1
        answered(subject, "a", 108.0)

        assert presence(subject, "a", 109.0) is Presence.IN_MEMORY

    def test_both_are_in_memory_once_they_are_reported_together(self, subject):
        answered(subject, "b", 108.0)
        subject.load.tell(report(109.0, "a", "b"))
        answered(subject, "b", 110.0)

        assert [presence(subject, model, 111.0) for model in ("a", "b")] == [Presence.IN_MEMORY] * 2
        assert not subject.load.memory.are_apart("a", "b")

    def test_without_reports_that_could_show_both_together_it_is_not_taken_for_granted(self, subject):
        answered(subject, "a", 108.0)
        answered(subject, "b", 110.0)
        late = presence(subject, "a", 111.0 + 30.0)
        subject.load.miss_report("it fails")

        assert late is presence(subject, "a", 111.0) is Presence.IN_MEMORY

    def test_a_known_number_of_models_counts_more_than_what_was_seen(self, subject):
        subject.load.tell(report(107.0, "b", max_loaded=2))
        answered(subject, "a", 108.0)
        answered(subject, "b", 110.0)

        assert presence(subject, "a", 111.0) is Presence.IN_MEMORY

    def test_requests_that_were_sent_before_their_model_left_wait_for_the_other_to_leave(self, subject):
        figures = subject.load.model("a")
        before = next_in_place_of(subject, "b", 106.0)
        figures.whole.waiting[object()] = 104.5
        figures.first_token.waiting[object()] = 104.2

        assert before is None
        assert next_in_place_of(subject, "b", 106.0) == ("a", 104.2)
        assert next_in_place_of(subject, "c", 106.0) is None

    @pytest.mark.parametrize(("limit", "found"), [(1, ("a", 104.5)), (2, None), (None, None)])
    def test_on_a_server_for_one_model_they_wait_for_any_other(self, limit, found):
        subject = backend(max_loaded_models=limit)
        subject.load.tell(report(105.0, "b"))
        subject.load.model("a").whole.waiting[object()] = 104.5

        assert next_in_place_of(subject, "b", 106.0) == found


class TestLoadTime:
    def test_it_is_the_time_beyond_that_of_a_warm_answer(self):
        subject = backend()
        subject.load.model("a").first_token.observe(2.0, 90.0)
        load = begin(subject, "a", 100.0)

        end_load(subject, load, 114.0)

        assert subject.load.model("a").load_s == pytest.approx(12.0)

    def test_a_load_that_waited_for_others_measures_nothing(self):
        subject = backend()

        end_load(subject, begin(subject, "a", 100.0, waits_for="b"), 160.0)

        assert subject.load.model("a").load_s == 0.0

    def test_old_measurements_lose_weight(self):
        figures = backend().load.model("a")

        figures.observe_load(10.0, 0.0)
        figures.observe_load(20.0, 1.0)
        soon = figures.load_s
        figures.observe_load(10.0, 100_000.0)

        assert 12.0 < soon < 14.0
        assert figures.load_s == pytest.approx(10.0, abs=0.1)
