"""The list of decisions, its filters, and the page of one decision."""

import asyncio

import msgspec
import pytest

from nexus.admin.routing.decisions import routes
from nexus.config.schema import RoutingConfig
from nexus.domain.outcome import AttemptOutcome, Ending, ExchangeOutcome
from nexus.domain.request import Requirements
from nexus.domain.routes import PageRequest
from nexus.errors import RequestError
from nexus.routing.assembly import build_router
from nexus.routing.decision_record import RecentDecisions, Request
from nexus.routing.router import Routing
from nexus.testing.builders import CHAT, make_backend, make_fleet
from tests.support.several_workers import several_workers


def list_decisions(recent, request):
    return asyncio.run(routes(recent)[0].respond(request))


def show_decision(recent, request):
    return asyncio.run(routes(recent)[1].respond(request))


FLEET = make_fleet(
    make_backend("gpu-1", models=["llama3"]),
    make_backend("gpu-2", models=["qwen3"]),
    make_backend("busy", models=["phi"], max_in_flight=0),
)


@pytest.fixture
def recent():
    return RecentDecisions()


@pytest.fixture
def decide(recent):
    """Decide about one request, and end it with a status unless that is None."""
    router = build_router(RoutingConfig(aliases={"gpt-4": "llama3"}))

    def run(model, *, status=200, code=None, id_="r-1", clients_id="", key=b""):
        search = Routing(
            router,
            Request(
                id=id_,
                endpoint=CHAT,
                requirements=Requirements(model=model),
                headers={},
                received_unix_s=1_777_777_777.0,
                client_request_id=clients_id,
                key_digest=key,
            ),
        )
        search.next(FLEET)
        recent.add(search.record)
        if status is not None:
            search.record.outcome = outcome(status, code)
        return search.record

    return run


def outcome(status, code):
    return ExchangeOutcome(
        request_id="r-1",
        endpoint="openai.chat",
        protocol="openai",
        model="llama3",
        resolved_model="llama3",
        is_stream=False,
        ending=Ending.FINISHED,
        status=status,
        code=code,
        phase="relay",
        termination="--",
        route_reason="capability-match",
        fallback_model=None,
        attempts=(AttemptOutcome(backend="gpu-1", backend_id="1", model="llama3", ending=Ending.FINISHED),),
        received_at=0.0,
        duration_s=0.5,
        queued_s=0.0,
        first_byte_s=None,
        usage=None,
        bytes_in=0,
        bytes_out=0,
    )


def listed(recent, query="", **asker):
    page = list_decisions(recent, PageRequest(method="GET", path="/v1/route/decisions", query=query, **asker))
    return msgspec.json.decode(page.body)


def test_the_newest_comes_first(recent, decide):
    for number in range(3):
        decide("llama3", id_=f"r-{number}")

    told = listed(recent)

    assert [row["id"] for row in told["decisions"]] == ["r-2", "r-1", "r-0"]
    assert told["kept"] == 3


def test_a_row_shows_the_result_of_a_request(recent, decide):
    decide("llama3")

    (row,) = listed(recent)["decisions"]

    assert (row["model"], row["endpoint"], row["decision"], row["backend"]) == (
        "llama3",
        "openai.chat",
        "route",
        "gpu-1",
    )
    assert (row["status"], row["ending"], row["duration_ms"], row["rounds"]) == (200, "finished", 500.0, 1)
    assert (row["result"], row["rejected_by"]) == ("finished", None)
    assert row["received_at"] == "2026-05-03T03:09:37Z"


def test_a_client_sees_only_its_own_decisions(recent, decide):
    for id_, key in (("a-1", b"a"), ("b-1", b"b"), ("a-2", b"a"), ("nobodys", b"")):
        decide("llama3", id_=id_, key=key)

    told = listed(recent, sees_all=False, key_digest=b"a")

    assert [row["id"] for row in told["decisions"]] == ["a-2", "a-1"]
    assert told["kept"] == 2


@pytest.mark.parametrize(
    ("asker", "is_found"),
    [
        ({"sees_all": False, "key_digest": b"a"}, True),
        ({"sees_all": False, "key_digest": b"b"}, False),
        ({"sees_all": False}, False),
        ({"sees_all": True, "key_digest": b"b"}, True),
    ],
)
def test_a_decision_is_shown_to_its_own_key_and_to_administrators(recent, decide, asker, is_found):
    decide("llama3", id_="r-7", key=b"a")
    asked = PageRequest(method="GET", path="/v1/route/decisions/r-7", **asker)

    if is_found:
        assert show_decision(recent, asked).status == 200
    else:
        with pytest.raises(RequestError, match="no decision with this id is kept for this key") as refused:
            show_decision(recent, asked)
        assert refused.value.code == "not_found"


def test_the_clients_request_id_is_shown_but_finds_no_decision(recent, decide):
    decide("llama3", id_="r-7", clients_id="mine")

    assert [row["client_request_id"] for row in listed(recent, "client_request_id=mine")["decisions"]] == ["mine"]
    with pytest.raises(RequestError, match="by the id that Nexus gave"):
        show_decision(recent, PageRequest(method="GET", path="/v1/route/decisions/mine"))


def test_a_running_request_has_no_outcome_yet(recent, decide):
    decide("llama3", status=None)

    (row,) = listed(recent)["decisions"]

    assert (row["status"], row["ending"], row["duration_ms"]) == (None, None, None)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("model=llama3", ["alias", "local"]),
        ("model=gpt-4", ["alias"]),
        ("backend=gpu-2", ["other"]),
        ("decision=reject", ["unknown"]),
        ("decision=queue", ["waits"]),
        ("status=404", ["unknown"]),
        ("status=200&model=llama3", ["alias", "local"]),
        ("status=500", []),
        ("result=failed", ["unknown"]),
        ("result=stalled", []),
        ("limit=2", ["waits", "unknown"]),
        ("model=llama3&limit=1", ["alias"]),
        ("model=", []),
    ],
)
def test_filters_select_decisions(recent, decide, query, found):
    decide("llama3", id_="local")
    decide("qwen3", id_="other")
    decide("gpt-4", id_="alias")
    decide("gone", id_="unknown", status=404, code="model_not_found")
    decide("phi", id_="waits", status=None)

    assert [row["id"] for row in listed(recent, query)["decisions"]] == found


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=-1", "limit"),
        ("limit=\u0661", "limit"),
        ("limit=" + "9" * 5000, "limit"),
        ("status=twohundred", "status"),
        ("decision=maybe", "decision"),
        ("result=truncate", "result"),
        ("backends=gpu-1", "backends"),
        ("x" * 5000 + "=1", "x" * 100),
    ],
)
def test_an_unknown_filter_is_refused(recent, query, param):
    with pytest.raises(RequestError) as refused:
        listed(recent, query)

    assert (refused.value.code, refused.value.param) == ("invalid_value", param)
    assert len(refused.value.message) < 300


def test_one_decision_is_shown_whole(recent, decide):
    decide("llama3", id_="a/b?c")

    page = show_decision(recent, PageRequest(method="GET", path="/v1/route/decisions/a%2Fb%3Fc"))
    told = msgspec.json.decode(page.body)

    assert (told["id"], told["source"], told["decision"]["backend"]) == ("a/b?c", "request", "gpu-1")
    assert told["outcome"]["attempts"][0]["backend"] == "gpu-1"


def test_a_decision_that_is_not_kept_is_not_found(recent):
    with pytest.raises(RequestError) as refused:
        show_decision(recent, PageRequest(method="GET", path="/v1/route/decisions/r-9"))

    assert refused.value.code == "not_found"


def test_a_request_without_a_decision_is_not_shown(recent, decide):
    decide("llama3").rounds.clear()

    assert listed(recent) == {"decisions": [], "kept": 1}
    with pytest.raises(RequestError):
        show_decision(recent, PageRequest(method="GET", path="/v1/route/decisions/r-1"))


async def test_several_workers_show_their_decisions_together(decide, recent):
    workers = several_workers(3)
    one, two, _ = pages = [
        routes(kept, peers) for kept, peers in zip((RecentDecisions(), recent, RecentDecisions()), workers, strict=True)
    ]
    decide("llama3", id_="r-1", key=b"a")
    decide("llama3", id_="r-2", key=b"b")

    shown = [msgspec.json.decode((await page.respond(asks())).body) for page, _ in pages]
    found = await one[1].respond(asks("/r-2"))

    assert [[row["id"] for row in each["decisions"]] for each in shown] == [["r-2", "r-1"]] * 3
    assert [each["kept"] for each in shown] == [2] * 3
    assert msgspec.json.decode(found.body)["id"] == "r-2"
    assert found.body == (await two[1].respond(asks("/r-2"))).body
    with pytest.raises(RequestError, match="no decision with this id"):
        await one[1].respond(asks("/r-2", sees_all=False, key_digest=b"a"))


def asks(below="", **asker):
    return PageRequest(method="GET", path=f"/v1/route/decisions{below}", **asker)
