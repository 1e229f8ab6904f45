"""A request waits for a slot, and uses what it reserved only where the fleet still allows it."""

import pytest

from nexus.domain.outcome import Ending
from nexus.error_codes import UpstreamFault
from nexus.errors import RequestError
from tests.support.fake_backends import ANSWER, SILENT, broken, whole
from tests.support.rig import turns


async def failure_of(found):
    with pytest.raises(RequestError) as failed:
        await found
    return failed.value


def agents(error):
    """Return the backends that the reasons of *error* name, each with the stage that is the reason."""
    return [(reason["agent_id"], reason["reconciler"]) for reason in error.context["rejection_reasons"]]


# the wait


async def test_a_request_waits_until_a_slot_is_free(rig):
    rig.backend("gpu-1", whole(), max_in_flight=1, in_flight=1)

    failover = rig.failover()
    found = rig.search(failover)
    await turns()
    asked_before = list(rig.asked)
    rig.free("gpu-1")
    attempt = await found

    assert (asked_before, attempt.response.body) == ([], ANSWER)
    assert rig.load("gpu-1").in_flight == 1
    assert [phase for phase, _ in failover.record.phases] == ["receive", "route", "queue", "send", "await_first_byte"]


async def test_a_slot_that_was_given_when_the_client_left_is_given_back(rig):
    rig.backend("gpu-1", whole(), max_in_flight=1, in_flight=1)

    failover = rig.failover()
    rig.search(failover)
    await turns()
    rig.free("gpu-1")
    in_flight = rig.load("gpu-1").in_flight
    rig.client.leave()
    await rig.over()

    assert in_flight == 1
    assert (rig.held, rig.asked, failover.attempts) == ([], [], [])
    assert [(report.backend, report.ending, report.is_sent) for report in rig.fleet.reports] == [
        ("gpu-1", Ending.CLIENT_LEFT, False)
    ]


async def test_a_slot_that_is_given_back_goes_to_the_next_in_line(rig):
    rig.backend("gpu-1", whole(), max_in_flight=1, in_flight=1)

    rig.search(rig.failover())
    await turns()
    leaving = rig.client.task
    next_found = rig.search(rig.failover())
    await turns()
    rig.free("gpu-1")
    leaving.cancel()

    assert (await next_found).response.body == ANSWER


async def test_an_urgent_request_is_given_a_slot_first(rig):
    rig.backend("gpu-1", whole(), max_in_flight=1, in_flight=1)

    usual = rig.search(rig.failover())
    await turns()
    urgent = rig.search(rig.failover(("X-Nexus-Priority", " High ")))
    await turns()
    rig.free("gpu-1")
    await turns()

    assert (usual.done(), urgent.done()) == (False, True)


async def test_a_request_also_waits_for_backends_that_join_later(rig):
    rig.backend("gpu-1", max_in_flight=1, in_flight=1)

    found = rig.search(rig.failover())
    await turns()
    rig.backend("gpu-2", whole(), max_in_flight=1, in_flight=1)
    rig.line.fleet_changed()
    rig.free("gpu-2")

    assert (await found).backend.name == "gpu-2"


async def test_a_request_waits_only_for_backends_of_the_fleet(rig):
    rig.backend("gpu-1", max_in_flight=1, in_flight=1)

    rig.search(rig.failover())
    await turns()
    before = set(rig.line.line.sets)
    rig.backend("gpu-2", max_in_flight=1, in_flight=1)
    rig.fleet.registry.remove("gpu-1")
    rig.line.fleet_changed()

    assert (before, set(rig.line.line.sets)) == ({frozenset({"gpu-1"})}, {frozenset({"gpu-2"})})


async def test_the_slot_of_a_failed_attempt_is_offered_to_those_that_wait(rig):
    rig.backend("gpu-1", broken(UpstreamFault.RESET), whole(), max_in_flight=1)

    first = rig.search(rig.failover())
    waiting = rig.search(rig.failover())

    assert (await failure_of(first)).code == "bad_gateway"
    assert (await waiting).response.body == ANSWER


# no slot


async def test_without_a_queue_a_busy_fleet_is_overloaded_and_says_why(make_rig):
    rig = make_rig(queue={"enabled": False})
    rig.backend("gpu-1", max_in_flight=1, in_flight=1)

    error = await failure_of(rig.failover().find_answer())

    assert (error.code, error.retry_after_s) == ("overloaded", 1)
    assert agents(error) == [("gpu-1", "schedule")]
    assert error.context["available_backends"] == ["gpu-1"]
    assert error.headers["X-Nexus-Rejection-Reasons"] == "1 agents rejected by schedule"


@pytest.mark.parametrize(
    ("queue", "server", "code"),
    [
        ({"max_size": 0}, {}, "queue_full"),
        ({"max_wait_seconds": 0.005}, {}, "queue_timeout"),
        ({}, {"request_timeout_seconds": 0.005}, "deadline_exceeded"),
    ],
)
async def test_a_request_that_gets_no_slot_is_told_why(make_rig, queue, server, code):
    rig = make_rig(queue=queue, server=server)
    rig.backend("gpu-1", max_in_flight=1, in_flight=1)

    error = await failure_of(rig.failover().find_answer())

    assert error.code == code
    assert agents(error) == [("gpu-1", "schedule")]
    assert rig.held == []


async def test_the_reasons_include_the_attempts_that_have_failed(make_rig):
    rig = make_rig(queue={"enabled": False})
    rig.backend("gpu-1", broken(UpstreamFault.RESET))
    rig.backend("gpu-2", max_in_flight=1, in_flight=1)

    error = await failure_of(rig.failover().find_answer())

    assert error.code == "overloaded"
    assert agents(error) == [("gpu-1", "attempt"), ("gpu-2", "schedule")]


async def test_a_request_does_not_wait_for_backends_that_have_all_left(rig):
    rig.backend("gpu-1", broken(UpstreamFault.RESET))
    rig.backend("gpu-2", max_in_flight=1, in_flight=1)

    found = rig.search(rig.failover())
    await turns()
    rig.fleet.registry.remove("gpu-2")
    rig.line.fleet_changed()
    error = await failure_of(found)

    assert error.code == "no_healthy_backend"
    assert ("gpu-1", "attempt") in agents(error)


# no backend


async def test_a_model_that_no_backend_has_is_looked_for_once(rig):
    rig.fleet.probe = lambda: rig.backend("gpu-1", whole())

    attempt = await rig.failover().find_answer()

    assert (attempt.backend.name, rig.fleet.looks) == ("gpu-1", 1)


async def test_a_model_that_is_not_found_is_refused(rig):
    error = await failure_of(rig.failover().find_answer())

    assert (error.code, error.param, rig.fleet.looks) == ("model_not_found", "model", 1)


async def test_after_a_failed_attempt_no_backend_is_looked_for(rig):
    rig.backend("gpu-1", broken(UpstreamFault.RESET))

    await failure_of(rig.failover().find_answer())

    assert rig.fleet.looks == 0


# the fleet changes between the reservation and the request


async def begin_after(rig, **changed):
    """Let a request wait, be given the slot of gpu-1, and find that gpu-1 has *changed* meanwhile."""
    rig.backend("gpu-1", whole(), max_in_flight=1, in_flight=1)
    found = rig.search(rig.failover())
    await turns()
    before = rig.fleet.snapshot.by_id["gpu-1"]
    rig.free("gpu-1")
    rig.fleet.registry.update("gpu-1", **changed)
    return before, found


async def test_a_backend_is_asked_where_it_is_now(rig):
    _, found = await begin_after(rig, url="http://elsewhere:8000")

    attempt = await found

    assert attempt.backend is rig.fleet.snapshot.by_id["gpu-1"]
    assert b"Host: elsewhere:8000\r\n" in rig.upstreams.pools["gpu-1"].lent[0].head


async def test_a_backend_of_which_something_else_changes_is_asked_as_it_was(rig):
    before, found = await begin_after(rig, is_cooling=True)

    assert (await found).backend is before


async def test_nothing_is_sent_to_a_backend_that_has_left(rig):
    gone = rig.backend("gpu-1", whole(), max_in_flight=1, in_flight=1)
    found = rig.search(rig.failover())
    await turns()
    load = rig.load("gpu-1")
    rig.free("gpu-1")
    rig.fleet.registry.remove("gpu-1")
    rig.backend("gpu-2", whole())
    attempt = await found

    assert (attempt.backend.name, gone.lent) == ("gpu-2", [])
    assert load.in_flight == 0


async def test_nothing_follows_a_backend_into_another_zone(rig):
    backend = rig.backend("gpu-1", whole(), max_in_flight=1, in_flight=1)
    rig.backend("gpu-2", SILENT, max_in_flight=1, in_flight=1)
    found = rig.search(rig.failover())
    await turns()
    rig.free("gpu-1")
    rig.fleet.registry.update("gpu-1", url="http://elsewhere:8000", zone="open")
    in_flight = rig.load("gpu-1").in_flight
    await turns()

    assert (in_flight, rig.load("gpu-1").in_flight) == (1, 0)
    assert backend.lent == []
    assert not found.done()
