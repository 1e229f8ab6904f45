"""The live counters of a backend."""

import pytest

from nexus.domain.backend_load import BackendLoad, moved_average


def test_the_first_sample_sets_the_average_and_zero_is_as_good_as_any():
    assert moved_average(None, 0) == 0
    assert moved_average(0, 100) == 20


def test_the_average_moves_by_a_fifth_in_whole_milliseconds():
    average = None
    averages = []

    for sample in (100, 200, 50, 50):
        average = moved_average(average, sample)
        averages.append(average)

    assert averages == [100, 120, 106, 94]


def test_probes_count_until_there_is_a_real_request():
    load = BackendLoad()

    load.observe_probe(5)
    load.observe_request(900)
    load.observe_probe(5)
    load.observe_request(400)

    assert load.latency_ms == 800


def test_slots_are_acquired_and_released():
    load = BackendLoad(in_flight=1)

    load.acquire()
    load.acquire()
    load.release()

    assert load.in_flight == 2


@pytest.mark.parametrize("name", ["in_flight", "requests_total", "latency_ms", "is_latency_real", "probing", "models"])
def test_a_counter_cannot_be_set_from_outside(name):
    with pytest.raises(AttributeError):
        setattr(BackendLoad(), name, 0)
