"""/health reports that the process is alive, /ready whether it can serve a request."""

import msgspec
import pytest

from nexus.admin.health import ProxyState, health, ready
from nexus.domain.backend import Status


def said(page):
    return msgspec.json.decode(page.body)


def is_ready(snapshot, *stages, **state):
    return ready(snapshot, ProxyState(started_at=0.0, **state), stages)


def test_health_has_the_documented_shape(fleet, backend):
    page = health(fleet(backend("a"), backend("b", models=("llama3", "qwen3"))), uptime_s=61.9)

    assert page.status == 200
    assert page.content_type == "application/json"
    assert said(page) == {
        "status": "healthy",
        "uptime_seconds": 61,
        "backends": {"total": 2, "healthy": 2, "unhealthy": 0},
        "models": 2,
        "workers": {"wanted": 1, "ready": 1},
    }


@pytest.mark.parametrize(
    ("states", "word"),
    [
        ([], "unhealthy"),
        ([Status.UNHEALTHY], "unhealthy"),
        ([Status.UNKNOWN, Status.DRAINING], "unhealthy"),
        ([Status.HEALTHY, Status.DRAINING], "degraded"),
        ([Status.HEALTHY], "healthy"),
    ],
)
def test_health_is_one_word_and_always_200(fleet, backend, states, word):
    page = health(fleet(*(backend(f"b{n}", status=state) for n, state in enumerate(states))), uptime_s=0)

    assert (page.status, said(page)["status"]) == (200, word)


def test_a_fleet_with_one_healthy_backend_is_ready(fleet, backend):
    page = is_ready(fleet(backend("a"), backend("b", status=Status.UNHEALTHY)))

    assert page.status == 200
    assert said(page) == {
        "ready": True,
        "reason": None,
        "detail": {
            "backends": {"total": 2, "healthy": 1, "unhealthy": 1},
            "rejected_reload": None,
            "switched_off_stages": [],
            "store_failure": None,
            "on_store_failure": {"approvals": "refuse", "kept_objects": "local"},
            "workers": {"wanted": 1, "ready": 1},
        },
    }


@pytest.mark.parametrize(
    ("states", "reason"),
    [
        ([], "no backend is known"),
        ([Status.UNKNOWN], "no backend has been probed yet"),
        ([Status.UNHEALTHY, Status.UNKNOWN], "no backend is healthy"),
        ([Status.DRAINING], "no backend is healthy"),
    ],
)
def test_a_fleet_that_cannot_serve_says_why(fleet, backend, states, reason):
    page = is_ready(fleet(*(backend(f"b{n}", status=state) for n, state in enumerate(states))))

    assert page.status == 503
    assert said(page)["reason"].startswith(reason)


@pytest.mark.parametrize(
    ("waiting", "told"), [(1, "1 server that was found waits"), (3, "3 servers that were found wait")]
)
def test_an_empty_fleet_says_that_servers_wait_for_approval(fleet, waiting, told):
    page = is_ready(fleet(), waiting=lambda: waiting)

    assert page.status == 503
    assert f"{told} for approval" in said(page)["reason"]


def test_a_fleet_without_a_model_has_nothing_to_serve(fleet, backend):
    page = is_ready(fleet(backend("a", models=()), backend("b", status=Status.UNHEALTHY)))

    assert page.status == 503
    assert said(page)["reason"].startswith("no healthy backend lists a model")


def test_a_proxy_that_shuts_down_is_not_ready(fleet, backend):
    page = is_ready(fleet(backend()), is_draining=True)

    assert page.status == 503
    assert said(page)["reason"].startswith("shutting down")


def test_a_switched_off_stage_is_shown_and_the_proxy_stays_ready(fleet, backend):
    page = is_ready(fleet(backend()), "quality")

    assert page.status == 200
    assert said(page)["detail"]["switched_off_stages"] == ["quality"]


def test_a_failing_store_is_shown_and_the_proxy_stays_ready(fleet, backend):
    page = is_ready(fleet(backend()), store_failure=lambda: "store a: disk full")

    assert page.status == 200
    assert said(page)["detail"]["store_failure"] == "store a: disk full"


def test_what_a_stage_does_while_the_store_fails_is_shown(fleet, backend):
    state = ProxyState(started_at=0)

    page = ready(fleet(backend()), state, (), {"budget": "local_share"})

    assert said(page)["detail"]["on_store_failure"]["budget"] == "local_share"


def test_a_rejected_reload_is_shown_and_the_proxy_stays_ready(fleet, backend):
    page = is_ready(fleet(backend()), rejected_reload="nexus.toml: [sever]: unknown section")

    assert page.status == 200
    assert said(page)["detail"]["rejected_reload"] == "nexus.toml: [sever]: unknown section"


def test_no_page_may_be_cached(fleet):
    page = is_ready(fleet())

    assert dict(page.headers) == {"Cache-Control": "no-store"}


def test_what_replicas_do_while_their_store_fails_is_shown(fleet, backend):
    page = is_ready(fleet(backend()), has_replicas=lambda: True)

    assert said(page)["detail"]["on_store_failure"]["slots"] == "local_share"
