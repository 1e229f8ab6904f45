"""What the client is told when no backend has an answer, and what becomes of a request that is moved."""

import asyncio

import pytest

from nexus.dialing.upstream_settings import UpstreamSettings
from nexus.domain.model import ModelFacts
from nexus.domain.outcome import Ending
from nexus.error_codes import UpstreamFault
from nexus.errors import RequestError, UpstreamError
from nexus.proxy.exchange import first_byte, judging, rerouting
from nexus.testing.builders import MODEL
from nexus.testing.waiting import eventually
from tests.support.fake_backends import ANSWER, SILENT, broken, whole
from tests.support.rig import turns

BUSY = whole(b'{"error": "busy"}', 503)
UNREACHABLE = UpstreamError(UpstreamFault.REFUSED, "for the test")
KEY = ("Authorization", "Bearer sk-client")


async def failure_of(failover):
    with pytest.raises(RequestError) as failed:
        await failover.find_answer()
    return failed.value


def agents(error):
    return [(reason["agent_id"], reason["reconciler"]) for reason in error.context["rejection_reasons"]]


# the last word


async def test_the_error_of_the_last_backend_is_passed_on(rig):
    rig.backend("gpu-1", whole(b'{"error": "first"}', 500))
    rig.backend("gpu-2", whole(b'{"error": "second"}', 503))

    attempt = await rig.failover().find_answer()

    assert (attempt.response.status, attempt.response.body) == (503, b'{"error": "second"}')


async def test_what_a_backend_answered_says_more_than_that_the_next_was_not_reached(rig):
    rig.backend("gpu-1", BUSY)
    rig.backend("gpu-2", UNREACHABLE)

    attempt = await rig.failover().find_answer()

    assert (attempt.backend.name, attempt.response.body) == ("gpu-1", b'{"error": "busy"}')


async def test_of_several_backends_that_were_not_reached_the_last_counts(rig):
    rig.backend("gpu-1", UNREACHABLE)
    rig.backend("gpu-2", UpstreamError(UpstreamFault.TLS, "for the test"))

    assert (await failure_of(rig.failover())).code == "backend_tls"


async def test_for_how_long_a_backend_is_to_be_left_alone_is_reported(rig):
    rig.backend("gpu-1", whole(b'{"error": "busy"}', 503, (b"Retry-After", b"7")))
    rig.backend("gpu-2", BUSY)

    await rig.failover().find_answer()

    assert rig.fleet.retry_after_s == [7, None]


async def test_an_error_that_is_no_json_is_told_in_the_words_of_the_proxy(rig):
    rig.backend("gpu-1", whole(b"<h1>busy</h1>", 503, (b"Retry-After", b"7")))

    failover = rig.failover()
    error = await failure_of(failover)

    assert (error.code, error.retry_after_s) == ("backend_unavailable", 7)
    assert agents(error) == [("gpu-1", "attempt")]
    assert failover.record.phase == "await_first_byte"


async def test_an_error_that_is_no_overload_is_told_without_reasons(rig):
    rig.backend("gpu-1", broken(UpstreamFault.RESET))

    error = await failure_of(rig.failover())

    assert (error.code, error.message) == ("bad_gateway", "the backend could not answer: for the test")
    assert error.context is None


async def test_that_no_backend_was_reached_is_told_as_routing_tells_it(rig):
    rig.backend("gpu-1", UNREACHABLE)

    failover = rig.failover()
    error = await failure_of(failover)

    assert error.code == "no_healthy_backend"
    assert MODEL in error.message
    assert agents(error) == [("gpu-1", "attempt")]
    assert failover.record.phase == "send"


async def test_that_neither_a_model_nor_its_fallbacks_can_answer_is_told_with_the_last_failure(make_rig):
    rig = make_rig(routing={"fallbacks": {MODEL: ("qwen3",)}})
    rig.backend("gpu-1", broken(UpstreamFault.RESET))
    rig.backend("gpu-2", broken(UpstreamFault.RESET), models=["qwen3"])

    error = await failure_of(rig.failover())

    assert error.code == "bad_gateway"
    assert error.context["fallback_chain"] == [MODEL, "qwen3"]
    assert agents(error) == [("gpu-1", "attempt"), ("gpu-2", "attempt")]


async def test_a_prompt_that_is_too_long_for_every_backend_is_refused(rig):
    too_long = whole(b"maximum context length is 4096", 400)
    rig.backend("gpu-1", too_long, models=[ModelFacts(name=MODEL, context_length=4096)])

    error = await failure_of(rig.failover())

    assert error.code == "context_length_exceeded"


async def test_the_key_of_a_backend_is_no_fault_of_the_client(rig):
    rig.backend("gpu-1", whole(b'{"error": "bad key"}', 401), access=UpstreamSettings(key="sk-gpu"))

    error = await failure_of(rig.failover())

    assert error.code == "backend_auth"
    assert rig.fleet.reports[0].fault == "credentials"


async def test_the_refusal_of_the_clients_own_key_is_passed_on(rig):
    rig.backend("gpu-1", whole(b'{"error": "bad key"}', 401))

    attempt = await rig.failover(KEY).find_answer()

    assert (attempt.response.status, attempt.response.body) == (401, b'{"error": "bad key"}')
    assert rig.fleet.reports[0].fault == "status"


async def test_after_its_deadline_a_request_has_taken_too_long(make_rig):
    rig = make_rig(server={"request_timeout_seconds": 0.005})
    rig.backend("gpu-1", SILENT)
    rig.backend("gpu-2", whole())

    failover = rig.failover()
    error = await failure_of(failover)

    assert error.code == "deadline_exceeded"
    assert (rig.asked, failover.record.phase) == (["gpu-1"], "await_first_byte")


async def test_without_any_attempt_there_is_no_backend(rig):
    with pytest.raises(RequestError) as failed:
        judging.last_word(rig.failover())

    assert failed.value.code == "no_healthy_backend"


# a request that is moved away from a silent backend


@pytest.fixture
def silence(monkeypatch):
    """Let a request be overdue after a few milliseconds."""
    monkeypatch.setattr(first_byte, "FIRST_LOOK_S", 0.003)
    monkeypatch.setattr(rerouting, "LOOK_S", 0.003)
    monkeypatch.setattr(rerouting, "overdue_at", lambda *_, **__: 0.0)


@pytest.mark.usefixtures("silence")
async def test_the_backend_that_was_reserved_meanwhile_is_asked_next(rig):
    rig.backend("gpu-1", SILENT)
    rig.backend("gpu-2", whole())
    rig.backend("gpu-3", whole())

    failover = rig.failover()
    attempt = await failover.find_answer()

    assert (attempt.backend.name, attempt.response.body) == ("gpu-2", ANSWER)
    assert failover.attempts[0].outcome.fault == "silent"
    assert failover.successor is None
    assert rig.load("gpu-2").in_flight == 1


@pytest.mark.usefixtures("silence")
async def test_the_connection_to_the_silent_backend_is_closed(rig):
    pool = rig.backend("gpu-1", SILENT)
    rig.backend("gpu-2", whole())

    await rig.failover().find_answer()

    assert (pool.lent[0].ends, rig.load("gpu-1").in_flight) == (["abandoned"], 0)


@pytest.mark.usefixtures("silence")
async def test_a_silent_backend_is_reported_once_the_next_has_answered_sooner(rig):
    rig.backend("gpu-1", SILENT)
    rig.backend("gpu-2", whole())

    failover = rig.failover()
    attempt = await failover.find_answer()
    before = list(rig.fleet.reports)
    attempt.let_go(may_reuse=True)
    failover.settle(attempt, Ending.FINISHED)

    assert before == []
    assert sorted(report.backend for report in rig.fleet.reports) == ["gpu-1", "gpu-2"]


@pytest.mark.usefixtures("silence")
async def test_a_request_is_moved_once(rig):
    for name in ("gpu-1", "gpu-2", "gpu-3"):
        rig.backend(name, SILENT)

    rig.search(rig.failover())
    await eventually(lambda: rig.asked == ["gpu-1", "gpu-2"])
    await asyncio.sleep(0.01)

    assert rig.asked == ["gpu-1", "gpu-2"]


@pytest.mark.usefixtures("silence")
async def test_without_a_free_backend_the_request_waits_on(rig):
    pool = rig.backend("gpu-1", SILENT)
    rig.backend("gpu-2", max_in_flight=1, in_flight=1)

    found = rig.search(rig.failover())
    await asyncio.sleep(0.01)
    pool.lent[0].play(*whole())

    assert (await found).backend.name == "gpu-1"


async def reserve_successor(rig, failover):
    """Ask gpu-1, and reserve gpu-2 to take over."""
    rig.search(failover)
    await turns()
    failover.successor = failover.routing.another(rig.fleet.snapshot)
    assert rig.load("gpu-2").in_flight == 1


async def test_a_reserved_backend_that_is_not_asked_any_more_is_given_back(rig):
    rig.backend("gpu-1", SILENT)
    rig.backend("gpu-2", whole())
    failover = rig.failover()
    await reserve_successor(rig, failover)

    rig.client.leave()
    await rig.over()
    first, second = failover.settle_all(Ending.CLIENT_LEFT), failover.settle_all(Ending.CLIENT_LEFT)

    assert [outcome.backend for outcome in first] == ["gpu-1"]
    assert first == second
    assert sorted(report.backend for report in rig.fleet.reports) == ["gpu-1", "gpu-2"]
    assert (rig.asked, rig.held) == (["gpu-1"], [])


async def test_a_reserved_backend_that_has_left_is_given_back_and_another_is_asked(rig):
    silent = rig.backend("gpu-1", SILENT)
    rig.backend("gpu-2", whole())
    rig.backend("gpu-3", whole())
    failover = rig.failover()
    await reserve_successor(rig, failover)
    load = rig.load("gpu-2")

    rig.fleet.registry.remove("gpu-2")
    silent.lent[0].play(*broken(UpstreamFault.RESET))
    await rig.over()

    assert (rig.asked, load.in_flight) == (["gpu-1", "gpu-3"], 0)


async def test_a_reserved_backend_is_asked_whatever_the_failure_was(make_rig):
    rig = make_rig(routing={"max_retries": 0})
    silent = rig.backend("gpu-1", SILENT)
    rig.backend("gpu-2", whole())
    failover = rig.failover()
    await reserve_successor(rig, failover)

    silent.lent[0].play(*broken(UpstreamFault.RESET))
    await rig.over()

    assert rig.asked == ["gpu-1", "gpu-2"]


async def test_settling_again_changes_nothing(rig):
    rig.backend("gpu-1", whole())
    failover = rig.failover()
    await failover.find_answer()

    first = failover.settle_all(Ending.FINISHED)
    second = failover.settle_all(Ending.CLIENT_LEFT)

    assert first == second == tuple(rig.fleet.reports)
    assert rig.held == []
