import pytest

from nexus.domain.backend import Breaker
from nexus.domain.model_load import MAX_TRACKED_MODELS
from nexus.domain.outcome import Ending
from nexus.error_codes import UpstreamFault
from nexus.fleet.health.passive import MAX_UNSUPPORTED, PassiveSignals
from nexus.fleet.kinds import OLLAMA
from nexus.fleet.membership.identity import backend_id
from nexus.fleet.membership.registry import Registry
from tests.support.fakes import FakeClock

GPU = backend_id("gpu")


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def registry(make_backend):
    registry = Registry()
    registry.add(make_backend("gpu", "llama3"))
    return registry


@pytest.fixture
def refused():
    return []


@pytest.fixture
def passive(registry, clock, refused):
    def on_refused(backend_id):
        refused.append(backend_id)
        return True

    return PassiveSignals(registry, later=clock.call_later, on_refused=on_refused, chance=lambda: 0.5, clock=clock)


@pytest.fixture
def fail(passive, make_outcome):
    def fail(times=1):
        for _ in range(times):
            passive.report(GPU, make_outcome(Ending.BACKEND_FAILED, fault=UpstreamFault.RESET))

    return fail


def breaker(registry):
    return registry.snapshot.by_id[GPU].breaker


def test_three_failures_open_the_breaker_and_five_seconds_later_it_is_half_open(registry, clock, fail):
    fail(3)
    opened = breaker(registry)
    clock.advance(4.9)
    still = breaker(registry)
    clock.advance(0.1)

    assert (opened, still, breaker(registry)) == (Breaker.OPEN, Breaker.OPEN, Breaker.HALF_OPEN)


def test_a_request_that_is_answered_well_closes_it(registry, clock, passive, fail, make_outcome):
    fail(3)
    clock.advance(5)

    passive.report(GPU, make_outcome(status=200))

    assert breaker(registry) is Breaker.CLOSED
    assert clock.timers == []


def test_a_failure_while_half_open_doubles_the_pause(registry, clock, fail):
    fail(3)
    clock.advance(5)
    fail()
    clock.advance(9.9)
    still = breaker(registry)
    clock.advance(0.1)

    assert (still, breaker(registry)) == (Breaker.OPEN, Breaker.HALF_OPEN)


def test_a_client_that_leaves_neither_opens_nor_closes(registry, clock, passive, fail, make_outcome):
    fail(3)
    clock.advance(5)

    passive.report(GPU, make_outcome(Ending.CLIENT_LEFT, status=200))

    assert breaker(registry) is Breaker.HALF_OPEN


def test_the_faults_of_clients_between_failures_do_not_reset_the_count(registry, passive, fail, make_outcome):
    fail(2)
    passive.report(GPU, make_outcome(status=400))
    fail(1)

    assert breaker(registry) is Breaker.OPEN


def test_a_refused_connection_is_left_to_the_watch(registry, passive, refused, make_outcome):
    passive.report(GPU, make_outcome(Ending.BACKEND_FAILED, fault=UpstreamFault.REFUSED))

    assert refused == [GPU]
    assert breaker(registry) is Breaker.CLOSED


def test_without_a_watch_a_refused_connection_opens_the_breaker_at_once(registry, clock, make_outcome):
    passive = PassiveSignals(registry, later=clock.call_later, on_refused=lambda _: False, chance=lambda: 0.5)

    passive.report(GPU, make_outcome(Ending.BACKEND_FAILED, fault=UpstreamFault.REFUSED))

    assert breaker(registry) is Breaker.OPEN


def test_retry_after_cools_a_backend_down_for_that_long(registry, clock, passive, make_outcome):
    passive.report(GPU, make_outcome(status=429), retry_after_s=10.0)
    cooled = registry.snapshot.by_id[GPU].is_cooling
    clock.advance(10)

    assert cooled
    assert not registry.snapshot.by_id[GPU].is_cooling
    assert breaker(registry) is Breaker.CLOSED


def test_a_later_retry_after_replaces_the_earlier_one(registry, clock, passive, make_outcome):
    passive.report(GPU, make_outcome(status=503), retry_after_s=10.0)
    clock.advance(5)
    passive.report(GPU, make_outcome(status=503), retry_after_s=10.0)
    clock.advance(6)

    assert registry.snapshot.by_id[GPU].is_cooling


def test_latency_is_the_time_to_the_first_content(registry, passive, make_outcome):
    passive.report(GPU, make_outcome(status=200, first_byte_s=0.25, duration_s=60.0))

    assert registry.snapshot.by_id[GPU].load.latency_ms == 250


def test_only_successes_count_for_latency(registry, passive, make_outcome):
    passive.report(GPU, make_outcome(status=500, duration_s=0.001))
    passive.report(GPU, make_outcome(status=429, duration_s=0.001))

    assert registry.snapshot.by_id[GPU].load.latency_ms is None


def test_a_model_that_a_backend_denies_is_removed_from_its_list(registry, passive, make_backend):
    registry.add(make_backend("desk", "phi4:latest", kind="ollama"))

    passive.remove_model(GPU, "llama3")
    passive.remove_model(backend_id("desk"), "Phi4")
    passive.remove_model(GPU, "llama3")

    assert registry.snapshot.models == ()


def test_what_a_backend_does_not_support_is_remembered_within_a_bound(registry, passive):
    for number in range(2 * MAX_UNSUPPORTED):
        passive.note_unsupported(GPU, "openai.chat", f"model-{number}")
    passive.note_unsupported("gone", "openai.chat", "llama3")

    assert len(registry.snapshot.by_id[GPU].unsupported) == MAX_UNSUPPORTED


def test_an_outcome_of_a_removed_backend_is_ignored(registry, clock, passive, fail):
    fail(3)
    registry.remove(GPU)
    passive.forget(GPU)
    fail()
    clock.advance(600)

    assert registry.snapshot.backends == ()
    assert clock.timers == []


class TestSeveralModels:
    """``llama3`` and ``qwen3`` on one backend."""

    @pytest.fixture
    def registry(self, make_backend):
        registry = Registry()
        registry.add(make_backend("gpu", "llama3", "qwen3"))
        return registry

    @pytest.fixture
    def report(self, passive, make_outcome):
        def report(model, *args, retry_after_s=None, **fields):
            passive.report(GPU, make_outcome(*args, model=model, **fields), retry_after_s=retry_after_s)

        return report

    @pytest.fixture
    def row(self, registry):
        return lambda: registry.snapshot.by_id[GPU]

    def test_the_failures_of_one_model_are_not_those_of_another(self, report, row):
        for _ in range(4):
            report("qwen3", Ending.BACKEND_FAILED, fault=UpstreamFault.RESET)

        assert row().breaker_of("qwen3") is Breaker.OPEN
        assert row().breaker_of("llama3") is Breaker.CLOSED

    @pytest.mark.parametrize("fault", [UpstreamFault.CONNECT_TIMEOUT, UpstreamFault.TLS])
    def test_a_failure_before_a_model_is_requested_counts_for_all(self, report, row, fault):
        for model in ("qwen3", "llama3", "qwen3"):
            report(model, Ending.BACKEND_FAILED, fault=fault)

        assert {row().breaker_of(model) for model in ("qwen3", "llama3", "unasked")} == {Breaker.OPEN}

    def test_the_success_of_one_model_does_not_close_the_breaker_of_another(self, report, row):
        for _ in range(3):
            report("qwen3", status=500)
        report("llama3", status=200)

        assert row().model_breakers == {"qwen3": Breaker.OPEN}

    def test_any_answer_shows_that_connections_work_again(self, report, row, clock):
        for _ in range(3):
            report("qwen3", Ending.BACKEND_FAILED, fault=UpstreamFault.CONNECT_TIMEOUT)
        clock.advance(5)
        report("llama3", status=404)

        assert row().own_breaker is Breaker.CLOSED

    def test_retry_after_holds_for_the_model_that_was_asked_for(self, report, row, clock):
        report("qwen3", status=429, retry_after_s=10.0)
        cooling = row().is_cooling_for("qwen3"), row().is_cooling_for("llama3")
        clock.advance(10)

        assert cooling == (True, False)
        assert row().cooling_models == frozenset()

    def test_a_backend_fails_as_a_whole_when_all_requested_models_fail(self, report, row):
        for _ in range(3):
            report("qwen3", status=500)
        only_one_was_asked = row().breaker
        report("llama3", status=200)

        assert (only_one_was_asked, row().breaker) == (Breaker.OPEN, Breaker.CLOSED)
        assert row().breaker_of("llama3") is Breaker.CLOSED

    def test_the_number_of_tracks_is_limited(self, passive, report, row):
        for number in range(MAX_TRACKED_MODELS + 20):
            for _ in range(3):
                report(f"model-{number}", status=500)

        assert len(row().model_breakers) == MAX_TRACKED_MODELS
        assert len(row().load.models) == MAX_TRACKED_MODELS

    def test_tracks_are_dropped_when_all_is_well_again(self, report, row, clock):
        for _ in range(3):
            report("qwen3", status=500)
        report("qwen3", status=503, retry_after_s=10.0)
        clock.advance(10)
        report("qwen3", status=200)

        assert not row().is_troubled
        assert clock.timers == []


def test_each_form_of_answer_has_a_latency_of_its_own(registry, passive, make_outcome):
    passive.report(GPU, make_outcome(status=200, is_stream=True, first_byte_s=0.25, duration_s=60.0))
    passive.report(GPU, make_outcome(status=200, first_byte_s=8.0, duration_s=8.0))

    figures = registry.snapshot.by_id[GPU].load.models["llama3"]
    assert (figures.first_token.mean_ms(), figures.whole.mean_ms()) == (250, 8000)


def test_a_stream_that_its_client_leaves_has_shown_how_fast_it_began(registry, passive, make_outcome):
    passive.report(GPU, make_outcome(Ending.CLIENT_LEFT, status=200, is_stream=True, first_byte_s=0.25))

    assert registry.snapshot.by_id[GPU].load.models["llama3"].first_token.mean_ms() == 250


@pytest.mark.parametrize(
    "failure",
    [
        {"ending": Ending.BACKEND_FAILED, "fault": "stream_truncated", "status": 200, "is_stream": True},
        {"status": 500},
        {"status": 429},
        {"ending": Ending.BACKEND_FAILED, "fault": UpstreamFault.RESET},
    ],
)
def test_a_failure_never_makes_a_backend_look_fast(registry, passive, make_outcome, failure):
    ending = failure.pop("ending", Ending.FINISHED)
    passive.report(GPU, make_outcome(ending, first_byte_s=0.001, duration_s=0.001, **failure))

    figures = registry.snapshot.by_id[GPU].load.models["llama3"]
    assert (figures.first_token.mean_ms(), figures.whole.mean_ms()) == (None, None)
    assert figures.failures == 1


def test_a_fault_of_the_client_is_neither_fast_nor_a_failure(registry, passive, make_outcome):
    passive.report(GPU, make_outcome(status=400, first_byte_s=0.001, duration_s=0.001))

    figures = registry.snapshot.by_id[GPU].load.models["llama3"]
    assert (figures.first_token.mean_ms(), figures.whole.mean_ms(), figures.failures) == (None, None, 0)


def give_up(passive, make_outcome, times=1, *, silent_s=5.0, **fields):
    for _ in range(times):
        passive.report(GPU, make_outcome(Ending.CLIENT_LEFT, is_sent=True, silent_s=silent_s, **fields))


def test_three_clients_that_give_up_on_a_silent_backend_open_its_breaker(registry, passive, make_outcome):
    passive.report(GPU, make_outcome(status=200, duration_s=0.5))
    give_up(passive, make_outcome, 2)
    before = breaker(registry)
    give_up(passive, make_outcome)

    assert (before, breaker(registry)) == (Breaker.CLOSED, Breaker.OPEN)


def test_an_answer_between_clients_that_give_up_proves_that_it_works(registry, passive, make_outcome):
    for _ in range(4):
        give_up(passive, make_outcome, 2)
        passive.report(GPU, make_outcome(status=200))

    assert breaker(registry) is Breaker.CLOSED


def test_clients_that_stop_a_request_early_prove_nothing(registry, passive, make_outcome):
    give_up(passive, make_outcome, 9, silent_s=1.0)

    assert breaker(registry) is Breaker.CLOSED


@pytest.mark.parametrize(("silent_s", "state"), [(8.0, Breaker.CLOSED), (61.0, Breaker.OPEN)])
def test_clients_that_leave_while_nothing_was_measured_count_after_a_minute(
    registry, passive, make_outcome, silent_s, state
):
    give_up(passive, make_outcome, 3, silent_s=silent_s)

    assert breaker(registry) is state


def test_clients_that_leave_while_a_model_may_be_loading_prove_nothing(registry, passive, make_outcome):
    registry.update(GPU, kind=OLLAMA)
    registry.snapshot.by_id[GPU].load.model("llama3").whole.observe(0.5, 0.0)

    give_up(passive, make_outcome, 9)

    assert breaker(registry) is Breaker.CLOSED


def test_clients_that_leave_during_a_known_load_prove_nothing(registry, passive, make_outcome):
    registry.update(GPU, kind=OLLAMA)
    figures = registry.snapshot.by_id[GPU].load.model("llama3")
    figures.whole.observe(0.5, 0.0)
    figures.progressed_at = float("inf")
    figures.load_s = 50.0

    give_up(passive, make_outcome, 9, silent_s=90.0, load_s=90.0)

    assert breaker(registry) is Breaker.CLOSED


def test_a_deadline_of_the_operator_counts_while_nothing_was_measured(registry, passive, make_outcome):
    for _ in range(3):
        passive.report(GPU, make_outcome(Ending.TIMED_OUT, is_sent=True, silent_s=8.0))

    assert breaker(registry) is Breaker.OPEN


def test_clients_that_leave_before_the_usual_time_prove_nothing(registry, passive, make_outcome):
    registry.snapshot.by_id[GPU].load.model("llama3").whole.observe(20.0, 0.0)

    give_up(passive, make_outcome, 9)

    assert breaker(registry) is Breaker.CLOSED


def test_a_good_answer_ends_the_tries_of_a_failing_backend(registry, passive, make_outcome):
    figures = registry.snapshot.by_id[GPU].load.model("llama3")
    figures.tries = 3

    passive.report(GPU, make_outcome(status=200))

    assert figures.tries == 0
