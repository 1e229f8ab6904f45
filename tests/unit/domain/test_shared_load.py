"""The slots that a process may use, and the requests of other processes."""

from nexus.domain.backend_load import BackendLoad
from nexus.domain.shared_load import Allotment, Elsewhere, first_short, parts_for


def test_a_free_slot_stays_while_no_other_process_waits():
    part = Allotment(2)
    part.take()

    part.release()

    assert (part.size, part.used, part.returned) == (2, 0, 0)


def test_a_freed_slot_goes_back_while_another_process_waits():
    told = []
    part = Allotment(2, on_returned=told.append)
    part.take()
    part.take()
    part.is_contended = True

    part.release()

    assert (part.size, part.used, part.returned, told) == (1, 1, 1, [part])


def test_idle_slots_go_back_at_once_and_used_ones_do_not():
    part = Allotment(5)
    part.take()

    part.give_back_idle()

    assert (part.size, part.returned) == (1, 4)


def test_a_request_needs_a_slot_of_the_backend_and_one_of_its_model():
    whole, of_model = Allotment(1), Allotment(1, model="m")

    assert parts_for({"": whole, "m": of_model}, "m") == (of_model, whole)
    assert parts_for({"": whole, "m": of_model}, "other") == (whole,)
    assert parts_for({"m": of_model}, "m") == (of_model,)
    assert parts_for({"m": of_model}, "") == ()


def test_slots_are_asked_for_one_after_the_other():
    told = []
    whole, of_model = Allotment(0, on_short=told.append), Allotment(0, model="m", on_short=told.append)

    assert first_short((of_model, whole)) is of_model
    assert told == [of_model]
    assert first_short((Allotment(1),)) is None


def test_requests_elsewhere_are_added_by_model():
    total = Elsewhere(2, 10, 20, {"a": 1, "b": 1}) + Elsewhere(1, 1, 2, {"b": 1})

    assert total == Elsewhere(3, 11, 22, {"a": 1, "b": 2})


def test_a_load_counts_its_own_requests_and_those_elsewhere_once():
    load = BackendLoad()
    load.acquire()
    load.see_elsewhere(Elsewhere(3))
    load.acquire()
    load.release()

    assert (load.in_flight, load.everywhere) == (1, 4)


def test_a_load_has_a_slot_only_within_its_allotment():
    load = BackendLoad()
    load.divide("", Allotment(0))

    assert not load.has_slot(5)
    load.divide("", None)
    assert load.has_slot(5)
