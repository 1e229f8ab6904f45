"""The faults that a proxy must stand, one after another, in a fleet that was found and while discovery misbehaves."""

import asyncio
import json

import msgspec
import pytest

from nexus.fleet.discovery.mdns.announcer import own_addresses
from nexus.simulator import faults
from nexus.testing.waiting import eventually, until
from tests.support.dialects import CHAT
from tests.support.raw_client import RawClient

NETWORK = pytest.mark.skipif(not own_addresses(), reason="this machine has no network")
SHARED, LONELY = "llama3", "lonely"
"""A model that a well server has too, and one that the faulty server alone has."""
ENOUGH_FOR_A_RETRY = 6
"""Requests that succeed: retries are a share of the traffic."""


class Case(msgspec.Struct, frozen=True):
    """What the faulty server does with a request, and what a client is told that nothing else can answer."""

    fault: faults.AnyFault
    status: int = 502
    code: str | None = "bad_gateway"
    """None: the server's own error passes as it is."""
    is_stream: bool = False
    headers: dict[str, str] = {}


MISSING = json.dumps({"error": {"message": "The model `x` does not exist.", "code": 404, "type": "NotFoundError"}})
BEFORE_THE_ANSWER = {
    "1 refuses": Case(faults.Refuse(), 503, "no_healthy_backend"),
    "5 hangs up unasked": Case(faults.HangUp(at="accept")),
    "5 hangs up": Case(faults.HangUp()),
    "7 resets": Case(faults.Reset(), is_stream=True),
    "8 says nothing": Case(faults.Stall(), 504, "ttft_timeout", is_stream=True),
    "8 stops in the status line": Case(faults.Stall(phase="status_line"), 504, "ttft_timeout"),
    "8 stops after the head": Case(faults.Stall(phase="after_headers"), 504, "ttft_timeout", is_stream=True),
    "9 sends garbage": Case(faults.Garbage(), is_stream=True),
    "10 floods with 102": Case(faults.InformationalFlood(interval_s=0.0)),
    "11 answers 500": Case(faults.Status(status=500), 500, None),
    "12 answers 502": Case(faults.Status(status=502), 502, None),
    "12 answers 503": Case(faults.Status(status=503), 503, None),
    "12 answers 504": Case(faults.Status(status=504), 504, None, is_stream=True),
    "13 is overloaded for a while": Case(
        faults.Status(status=503, retry_after="7"), 503, None, headers={"retry-after": "7"}
    ),
    "14 limits the rate": Case(faults.Status(status=429, retry_after="7"), 429, None, headers={"retry-after": "7"}),
    "14 limits the rate in odd words": Case(faults.Status(status=429, retry_after="soon"), 429, None),
    "15 asks for a key": Case(faults.Status(status=401), 401, None),
    "15 forbids": Case(faults.Status(status=403), 403, None),
    "16 denies its model": Case(faults.Status(status=404, body=MISSING), 404, None),
    "17 says too long a length": Case(faults.WrongLength()),
    "18 is cut": Case(faults.Cut()),
    "21 is reset": Case(faults.Cut(ending="reset")),
    "23 sends comments only": Case(faults.CommentsOnly(), 504, "ttft_timeout", is_stream=True),
    "27 tells its error in a stream": Case(faults.ErrorEvent(), 500, None, is_stream=True),
    "27 tells its error in a success": Case(faults.ErrorInSuccess(), 502, None),
    "28 sends a web page": Case(faults.HtmlPage(), is_stream=True),
    "30 has odd headers": Case(faults.BadHeaders()),
    "30 has too many headers": Case(faults.BadHeaders(flaw="too_many")),
    "30 redirects": Case(faults.Redirect()),
}


async def asked(found, model, *, stream=False, **more):
    client = await RawClient.connect(found.nexus.port)
    client.send(CHAT, body=CHAT.body(stream=stream, **{**more, "model": model}))
    try:
        return await asyncio.wait_for(client.reply(), 10)
    finally:
        client.leave()


@pytest.fixture(autouse=True)
def balanced(found):
    """Whatever came of it, nothing is held when it is over."""
    yield
    until(lambda: not found.held())


@pytest.mark.parametrize("case", BEFORE_THE_ANSWER.values(), ids=BEFORE_THE_ANSWER.keys())
async def test_what_fails_before_the_answer_is_mended_or_told(found, case):
    with found.pod() as pod:
        for _ in range(ENOUGH_FOR_A_RETRY):
            assert (await asked(found, SHARED)).headers["x-nexus-backend"] == pod
        found.faulty.faults.set(case.fault)

        mended, told = await asyncio.gather(
            asked(found, SHARED, stream=case.is_stream), asked(found, LONELY, stream=case.is_stream)
        )

    assert (mended.status, mended.is_whole, mended.headers["x-nexus-backend"]) == (200, True, found.well_name)
    assert (told.status, told.is_whole) == (case.status, True)
    assert case.code is None or told.code == case.code
    assert {name: told.headers.get(name) for name in case.headers} == case.headers


IN_THE_ANSWER = {
    "19 cut between events": (faults.Cut(after_events=3, mid_event=False), "stream_truncated"),
    "19 ended too early": (faults.Cut(after_events=3, ending="terminate"), "stream_truncated"),
    "19 without its last words": (faults.Unfinished(), "stream_truncated"),
    "21 reset in an event": (faults.Cut(after_events=3, ending="reset"), "stream_truncated"),
    "22 falls silent": (faults.Stall(phase="mid_stream", after_events=3), "stream_stalled"),
    "30 too long an event": (faults.HugeEvent(after_events=3, size=2 * 2**20), "event_too_large"),
}


@pytest.mark.parametrize(("fault", "code"), IN_THE_ANSWER.values(), ids=IN_THE_ANSWER.keys())
async def test_a_stream_that_breaks_ends_with_an_error_and_is_never_tried_again(found, fault, code):
    with found.pod() as pod:
        found.faulty.faults.set(fault)

        reply = await asked(found, SHARED, stream=True)

    assert (reply.status, reply.is_whole, reply.headers["x-nexus-backend"]) == (200, False, pod)
    assert json.loads(reply.body.strip().rsplit(b"\n", 1)[-1].removeprefix(b"data: "))["error"]["code"] == code


ODD_BYTES = CHAT.events[1] + b'\xef\xbb\xbfid: 7\r\nretry: 5\r\ndata: \x00{"a":\r\n\r\n' + b"".join(CHAT.events[2:])
SSE = {"Content-Type": "text/event-stream"}
PASSES = {
    "20 without its marker": faults.Unfinished(has_finish_reason=True),
    "24 slowly": faults.Heartbeats(for_s=0.2, interval_s=0.02),
    "25 odd bytes in an event, which is 26 no JSON": faults.Status(status=200, body=ODD_BYTES.decode(), headers=SSE),
    "28 under another name": faults.Mislabel(),
    "29 not as a stream": faults.IgnoreStream(streams=False),
    "30 in a long event": faults.HugeEvent(after_events=3, size=500_000),
    "31 with too short a length": faults.WrongLength(by_bytes=-2),
}


@pytest.mark.parametrize("fault", PASSES.values(), ids=PASSES.keys())
async def test_what_is_odd_and_complete_passes(found, fault):
    with found.pod() as pod:
        found.faulty.faults.set(fault)

        reply = await asked(found, LONELY, stream=True)
        after = await asked(found, SHARED)

    assert (reply.status, reply.headers["x-nexus-backend"]) == (200, pod)
    assert reply.looks_finished(CHAT)
    assert after.status == 200
    if isinstance(fault, faults.Status):
        assert reply.body == ODD_BYTES


async def test_servers_that_cannot_be_reached_are_asked_for_nothing(found):
    """Rows 2, 3 and 4: packets that are lost, a name without an address, and no TLS where it is expected."""
    names = {"blackhole", "plain", "nameless"}
    until(lambda: not any(name.startswith("pod-") for name in found.rows()))
    found.cluster.put("blackhole", 8000, address="10.255.255.1")
    found.cluster.put("plain", found.faulty.port, service="tls")
    found.cluster.put("nameless", 8000, address="nameless.invalid", address_type="FQDN")
    before = len(found.faulty.requests)
    try:
        until(lambda: names <= found.rows().keys())
        replies = [await asked(found, SHARED, stream=number % 2 == 0) for number in range(6)]
        until(lambda: {found.rows()[name]["status"] for name in names} == {"unhealthy"})
    finally:
        for name in names:
            found.cluster.delete(name)

    assert {(reply.status, reply.headers["x-nexus-backend"]) for reply in replies} == {(200, found.well_name)}
    assert len(found.faulty.requests) == before, "it was asked without TLS"


async def test_a_connection_that_the_server_has_closed_costs_no_request(found):
    """Row 6."""
    with found.pod() as pod:
        for _ in range(20):
            assert (await asked(found, LONELY)).headers["x-nexus-backend"] == pod
            found.faulty.faults.set(faults.Refuse(for_s=0.0))
            # A probe may have come in the moment in which nothing listened.
            await eventually(lambda: not found.faulty.faults.current and found.is_healthy(pod), within_s=5)


async def test_a_server_that_refuses_early_stops_the_upload(found):
    """Row 32."""
    with found.pod():
        found.faulty.faults.set(faults.Status(status=413))

        reply = await asked(found, LONELY, messages=[{"role": "user", "content": "x" * 4_000_000}])

    assert reply.status == 413


@pytest.mark.parametrize("phase", ["head", "body", "first token", "stream"])
async def test_a_client_that_leaves_stops_its_server(found, phase):
    """Rows 34 and 36."""
    with found.pod():
        found.faulty.faults.set(
            faults.Stall(after_events=3, phase="mid_stream" if phase == "stream" else "before_headers")
        )
        aborted, received = len(found.faulty.aborted), len(found.faulty.received(CHAT.path))
        client = await RawClient.connect(found.nexus.port)
        request = CHAT.request(CHAT.body(stream=True, model=LONELY))
        client.writer.write(request[: {"head": 20, "body": -5}.get(phase, len(request))])
        if phase in {"first token", "stream"}:
            await eventually(lambda: len(found.faulty.received(CHAT.path)) > received)
        if phase == "stream":
            await client.reader.readuntil(b"data: ")

        client.reset()

        if phase in {"first token", "stream"}:
            await eventually(lambda: len(found.faulty.aborted) > aborted, within_s=0.25)
        await eventually(lambda: not found.held())
    assert len(found.faulty.received(CHAT.path)) - received == (phase in {"first token", "stream"})


@pytest.mark.parametrize("stream", [False, True])
async def test_a_half_closed_client_gets_its_answer(found, stream):
    """Row 35."""
    with found.pod() as pod:
        client = await RawClient.connect(found.nexus.port)
        client.send(CHAT, body=CHAT.body(stream=stream, model=LONELY))
        client.writer.write_eof()
        reply = await client.reply()
        client.leave()

    assert (reply.status, reply.is_whole, reply.headers["x-nexus-backend"]) == (200, True, pod)


async def test_a_client_that_reads_nothing_is_let_go(found):
    """Row 36."""
    with found.pod():
        found.faulty.faults.set(faults.HugeEvent(after_events=1, size=900_000, count=16))
        aborted = len(found.faulty.aborted)
        client = await RawClient.connect(found.nexus.port, receive_buffer=4096)
        client.send(CHAT, body=CHAT.body(stream=True, model=LONELY))

        await eventually(lambda: len(found.faulty.aborted) > aborted, within_s=4)
        client.leave()


async def test_a_storm_of_clients_that_leave_does_no_harm(found):
    """Row 37."""

    async def storm():
        for _ in range(25):
            clients = await asyncio.gather(*(RawClient.connect(found.nexus.port) for _ in range(20)))
            for client in clients:
                client.send(CHAT, body=CHAT.body(stream=True, model=SHARED))
            await asyncio.sleep(0.001)
            for client in clients:
                client.leave()

    storming = asyncio.ensure_future(storm())
    replies = []
    while not storming.done():
        replies.append(await asked(found, SHARED))
    await storming

    assert {reply.status for reply in replies} == {200}


async def test_finders_that_go_wrong_are_named_and_stop_nothing(found):
    """Row 38, at the hook that discovers."""
    failed = {line["task"]: line for line in found.nexus.wait_for_log("task_failed", 3)}

    assert failed.keys() == {"discover-raises", "discover-lies", "discover-cancels"}
    assert "misbehaving" in failed["discover-lies"]["error"]
    assert (await asked(found, SHARED)).status == 200


async def test_a_stream_goes_on_after_a_finder_has_held_up_the_event_loop(found):
    """Row 39."""
    with found.pod() as pod:
        found.faulty.faults.set(faults.Heartbeats(for_s=0.2, interval_s=0.02))
        client = await RawClient.connect(found.nexus.port)
        client.send(CHAT, body=CHAT.body(stream=True, model=LONELY))
        (found.nexus.config_file.parent / "block").touch()
        reply = await client.reply()
        client.leave()

    assert not (found.nexus.config_file.parent / "block").exists()
    assert (reply.status, reply.headers["x-nexus-backend"]) == (200, pod)
    assert reply.looks_finished(CHAT)


@pytest.mark.parametrize("source", ["file", "hosts", pytest.param("mdns", marks=NETWORK)])
async def test_a_server_of_another_source_fails_as_any_other(found, source):
    server = {"file": found.listed, "hosts": found.at_a_port, "mdns": found.desk}[source]
    place = f":{server.port}"
    name = until(
        lambda: next((n for n, row in found.rows().items() if row["url"].endswith(place) and row["models"]), "")
    )
    assert found.rows()[name]["discovery_source"] == source
    told = []
    for fault, stream in ((faults.HangUp(), False), (faults.Garbage(), True), (faults.Cut(after_events=3), True)):
        server.faults.set(fault)
        told.append(await asked(found, server.name, stream=stream))
        server.faults.clear()
        assert (await asked(found, server.name)).headers["x-nexus-backend"] == name

    assert [(reply.status, reply.is_whole) for reply in told] == [(502, True), (502, True), (200, False)]
    assert b"stream_truncated" in told[-1].body


@NETWORK
async def test_a_server_that_is_not_approved_gets_no_prompt(found):
    waiting = until(lambda: [row for row in found.pending() if row["name"] == found.rogue_name])

    refused = await asked(found, "rogue")

    assert (waiting[0]["trust"], refused.status) == ("pending", 404)
    assert {record.request.method for record in found.rogue.requests} <= {"GET"}


async def test_a_service_that_leads_back_to_the_proxy_is_no_backend_of_it(found):
    found.cluster.put("circle", found.nexus.port)
    found.cluster.put("beside", 9, address="127.0.0.4")
    try:
        until(lambda: "beside" in found.rows())
        assert "circle" not in found.rows()
    finally:
        found.cluster.delete("circle")
        found.cluster.delete("beside")
