"""Probes against servers that answer as the real ones do."""

import asyncio
import ssl

import msgspec
import pytest
import trustme
from aiohttp import web

from nexus.config.schema import HealthCheckConfig, ModelConfig
from nexus.config.secrets import Secret
from nexus.domain.backend import Status


def only(fleet):
    (backend,) = fleet.snapshot.backends
    return backend


@pytest.mark.parametrize(
    ("kind", "version", "max_in_flight", "slots"),
    [
        ("ollama", "0.33.0", 512, 4),
        ("vllm", "0.32.0", 1024, None),
        ("sglang", None, 1024, None),
        ("llamacpp", "b6000", 1024, 3),
        ("lmstudio", None, 1024, 4),
        ("exo", None, 1024, 4),
        ("generic", None, 1024, None),
    ],
)
async def test_each_kind_is_detected_by_requests(serve, plan, start, kind, version, max_in_flight, slots):
    server = await serve(kind, "tiny")

    fleet = await start(plan(gpu=server.url))

    backend = only(fleet)
    assert (backend.kind.name, backend.status, list(backend.models)) == (kind, Status.HEALTHY, ["tiny"])
    assert (backend.version, backend.max_in_flight, backend.slots) == (version, max_in_flight, slots)
    assert backend.last_error is None
    assert backend.last_check_at is not None
    assert backend.endpoints == backend.kind.endpoints


@pytest.mark.parametrize(
    ("kind", "context_length", "vision", "tools"),
    [
        ("ollama", 8192, False, True),
        ("vllm", 4096, None, None),
        ("sglang", 2048, True, None),
        ("llamacpp", 1024, True, None),
        ("lmstudio", 512, None, None),
    ],
)
async def test_facts_come_from_the_server(serve, plan, start, kind, context_length, vision, tools):
    server = await serve(kind, "tiny:latest")

    fleet = await start(plan(gpu=server.url))

    facts = only(fleet).facts("tiny:latest")
    assert (facts.context_length, facts.vision, facts.tools) == (context_length, vision, tools)


async def test_sglang_is_never_asked_for_its_health(serve, plan, start, fast, eventually):
    server = await serve("sglang", "tiny")

    await start(plan(fast, gpu={"url": server.url, "type": "sglang"}))
    await eventually(lambda: "GET /metrics" in server.asked)

    assert set(server.asked) == {
        "GET /model_info",
        "GET /v1/models",
        "GET /server_info",
        "GET /v1/loads",
        "GET /metrics",
    }
    assert server.asked.count("GET /server_info") == 1


async def test_an_idle_llamacpp_is_never_asked_for_its_metrics(serve, plan, start, fast, eventually):
    server = await serve("llamacpp", "tiny")

    await start(plan(fast, gpu={"url": server.url, "type": "llamacpp"}))
    await eventually(lambda: server.asked.count("GET /health") > 10)

    assert set(server.asked) - {"GET /models"} == {"GET /health", "GET /v1/models", "GET /props"}


async def test_a_paid_cloud_gets_its_key_and_a_single_get(serve, plan, start):
    server = await serve("generic", "gpt")

    fleet = await start(plan(cloud={"url": server.url, "type": "openai"}, secrets={"cloud": Secret("sk-1")}))

    assert only(fleet).zone == "open"
    assert server.asked == ["GET /v1/models"]
    assert server.requests[0].headers["Authorization"] == "Bearer sk-1"
    assert server.requests[0].headers["User-Agent"] == "nexus-proxy"
    assert "Cookie" not in server.requests[0].headers
    assert "Accept-Encoding" not in server.requests[0].headers


async def test_anthropic_gets_its_key_and_version(serve, plan, start):
    server = await serve("generic", "claude-x")

    await start(plan(cloud={"url": server.url, "type": "anthropic"}, secrets={"cloud": Secret("sk-2")}))

    headers = server.requests[0].headers
    assert (headers["x-api-key"], headers["anthropic-version"]) == ("sk-2", "2023-06-01")
    assert "Authorization" not in headers


async def test_azure_and_google_are_asked_below_their_paths(serve, plan, start):
    azure = await serve(None, answers={"/openai/v1/models": {"data": [{"id": "gpt"}]}})
    google = await serve(None, answers={"/v1beta/openai/models": {"data": [{"id": "models/gemini"}]}})

    fleet = await start(
        plan(
            azure={"url": f"{azure.url}/openai/v1", "type": "azure"},
            google={"url": f"{google.url}/v1beta/openai", "type": "google"},
            secrets={"azure": Secret("a-1"), "google": Secret("g-1")},
        )
    )

    assert {each.name: list(each.models) for each in fleet.snapshot.backends} == {
        "azure": ["gpt"],
        "google": ["gemini"],
    }
    assert azure.requests[0].headers["api-key"] == "a-1"
    assert google.requests[0].headers["Authorization"] == "Bearer g-1"
    assert "Authorization" not in azure.requests[0].headers


async def test_ollama_shows_a_model_once_for_each_of_its_digests(serve, plan, start, fast, eventually):
    server = await serve("ollama", "a", "b")
    fleet = await start(plan(fast, desk=server.url))
    await eventually(lambda: server.asked.count("GET /api/tags") > 3)
    shown_before = server.asked.count("POST /api/show")

    server.answers["/api/tags"] = {"models": [{"name": "a", "digest": "new"}, {"name": "b", "digest": "digest-of-b"}]}
    await eventually(lambda: only(fleet).facts("a").revision == "new")

    assert shown_before == 2
    assert server.asked.count("POST /api/show") == 3
    assert only(fleet).facts("b").context_length == 8192


async def test_a_model_that_cannot_be_shown_is_listed_all_the_same(serve, plan, start):
    server = await serve("ollama", "a", answers={"/api/show": 500})

    fleet = await start(plan(desk=server.url))

    assert only(fleet).facts("a").tools is None
    assert only(fleet).status is Status.HEALTHY


async def test_lookups_that_take_too_long_do_not_hold_the_models_back(serve, plan, start):
    async def slow(_):
        await asyncio.sleep(5)

    server = await serve("ollama", "a", answers={"/api/show": slow})

    fleet = await start(plan(HealthCheckConfig(interval_seconds=600, timeout_seconds=0.2), desk=server.url))

    assert list(only(fleet).models) == ["a"]


async def test_the_operator_knows_better(serve, plan, start):
    server = await serve("vllm", "tiny")

    fleet = await start(
        plan(gpu={"url": server.url, "max_in_flight": 2, "models": {"tiny": ModelConfig(context_length=99)}})
    )

    assert (only(fleet).facts("tiny").context_length, only(fleet).max_in_flight) == (99, 2)


async def test_a_list_that_cannot_be_read_is_not_a_dead_backend(serve, plan, start, fast, eventually):
    server = await serve("vllm", "tiny")
    fleet = await start(plan(fast, gpu=server.url))

    server.answers["/v1/models"] = b"<html>"
    await eventually(lambda: only(fleet).last_error)

    assert (only(fleet).status, list(only(fleet).models)) == (Status.HEALTHY, ["tiny"])
    assert only(fleet).last_error.startswith("invalid response: ")


async def test_an_empty_list_counts_when_it_is_repeated(serve, plan, start, eventually):
    server = await serve("generic", "a")
    fleet = await start(plan(gpu={"url": server.url, "type": "generic"}))
    server.answers["/v1/models"] = {"data": None}

    kept = []
    for number in range(3):
        fleet._watch("gpu").probe_soon()
        await eventually(lambda number=number: fleet.probe_counts.results["gpu"]["success"] == number + 2)
        kept.append(list(only(fleet).models))

    assert kept == [["a"], ["a"], []]
    assert only(fleet).status is Status.HEALTHY


async def test_created_is_what_was_reported_first(serve, plan, start, fast, eventually):
    server = await serve("vllm")
    server.answers["/v1/models"] = {"data": [{"id": "tiny", "created": 1000, "owned_by": "vllm"}]}
    fleet = await start(plan(fast, gpu=server.url))

    server.answers["/v1/models"] = {"data": [{"id": "tiny", "created": 2000, "max_model_len": 7}]}
    await eventually(lambda: only(fleet).facts("tiny").context_length == 7)

    assert only(fleet).facts("tiny").created == 1000


async def test_a_backend_that_is_down_at_start_is_detected_when_it_first_responds(
    serve, plan, start, fast, eventually, free_port
):
    fleet = await start(plan(fast, gpu=f"http://127.0.0.1:{free_port}"))
    before = only(fleet)

    await serve("llamacpp", "tiny", port=free_port)
    await eventually(lambda: only(fleet).status is Status.HEALTHY)

    assert (before.kind.name, before.status, before.endpoints) == ("auto", Status.UNHEALTHY, frozenset())
    assert (only(fleet).kind.name, list(only(fleet).models)) == ("llamacpp", ["tiny"])


async def test_models_that_ollama_forwards_are_in_the_open_zone(serve, plan, start):
    listed = [{"name": "own"}, {"name": "sent", "remote_host": "https://ollama.com:443"}, {"name": "big:cloud"}]
    server = await serve("ollama", answers={"/api/tags": {"models": listed}})

    gpu = only(await start(plan(gpu=server.url)))

    assert {name: gpu.zone_of(name) for name in gpu.models} == {
        "own": "restricted",
        "sent": "open",
        "big:cloud": "open",
    }
    assert gpu.zone == "restricted"


async def test_a_backend_that_has_not_been_recognised_yet_is_in_the_open_zone(plan, start, free_port):
    fleet = await start(plan(gpu=f"http://127.0.0.1:{free_port}"))

    assert (only(fleet).kind.name, only(fleet).zone) == ("auto", "open")


async def test_another_kind_of_server_that_takes_the_place_is_noticed(serve, plan, start, fast, eventually):
    server = await serve("ollama", "a")
    fleet = await start(plan(fast, gpu=server.url))

    server.answers = {"/health": b"", "/v1/models": {"data": [{"id": "tiny", "owned_by": "vllm"}]}}
    await eventually(lambda: only(fleet).kind.name == "vllm" and only(fleet).status is Status.HEALTHY)

    assert list(only(fleet).models) == ["tiny"]


async def test_llamacpp_that_is_still_loading_says_so_and_is_known(serve, plan, start, fast, eventually):
    said = {"error": {"message": "Loading model", "type": "unavailable_error", "code": 503}}

    async def loading(_):
        return web.json_response(said, status=503, headers={"Server": "llama.cpp"})

    server = await serve(answers=dict.fromkeys(("/health", "/props", "/v1/models", "/api/version"), loading))
    fleet = await start(plan(fast, gpu=server.url))
    before = only(fleet)

    server.answers = {"/health": {}, "/v1/models": {"data": [{"id": "tiny"}]}}
    await eventually(lambda: only(fleet).status is Status.HEALTHY)

    assert (before.status, before.kind.name) == (Status.LOADING, "llamacpp")
    assert before.last_error == "loading: HTTP 503, the server is loading its model"
    assert list(only(fleet).models) == ["tiny"]


async def test_a_503_that_does_not_mention_loading_is_a_failure(serve, plan, start):
    server = await serve("llamacpp", "tiny", answers={"/health": 503})

    fleet = await start(plan(gpu=server.url))

    assert (only(fleet).status, only(fleet).last_error) == (Status.UNHEALTHY, "HTTP error: 503 at /health")


@pytest.mark.parametrize(("in_flight", "status"), [(1, Status.HEALTHY), (0, Status.UNHEALTHY)])
async def test_a_probe_that_times_out_while_requests_run_is_no_failure(
    serve, plan, start, fast, eventually, in_flight, status
):
    server = await serve("generic", "tiny")
    fleet = await start(plan(msgspec.structs.replace(fast, timeout_seconds=0.3), gpu=server.url))
    for _ in range(in_flight):
        only(fleet).load.acquire()

    server.answers = {"/v1/models": _hang}
    await eventually(lambda: fleet.probe_counts.results["gpu"].get("failure", 0) >= 4)

    assert (only(fleet).status, only(fleet).is_busy) == (status, bool(in_flight))
    assert only(fleet).last_error == ("busy: " * in_flight + "request timeout after 1s" + BUSY * in_flight)
    assert list(only(fleet).models) == ["tiny"]


BUSY = " (requests running: 1)"


async def test_a_connection_that_is_refused_is_told_from_other_failures(serve, plan, start, fast, eventually):
    server = await serve("generic", "tiny")
    fleet = await start(plan(fast, gpu=server.url))

    await server.stop()
    await eventually(lambda: only(fleet).is_refusing)
    await server.start()
    await eventually(lambda: not only(fleet).is_refusing)

    assert list(only(fleet).models) == ["tiny"]


async def _hang(_):
    await asyncio.sleep(5)


async def _cut(request):
    request.transport.abort()
    return web.Response()


async def _endless(request):
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(200):
        await response.write(b"x" * 65536)
    return response


async def _redirect(_):
    return web.Response(status=302, headers={"Location": "http://127.0.0.1:1/elsewhere"})


@pytest.mark.parametrize(
    ("health", "error"),
    [
        (500, "HTTP error: 500 at /health"),
        (404, "HTTP error: 404 at /health; check 'url' and 'type'"),
        (401, "HTTP error: 401 at /health"),
        (_redirect, "HTTP error: 302 at /health"),
        (_hang, "request timeout after 1s"),
        (_cut, "connection failed: closed before the answer was complete"),
        (_endless, "invalid response: longer than 4 MiB"),
    ],
)
async def test_a_failure_says_what_it_was(serve, plan, start, health, error):
    server = await serve("vllm", "tiny", answers={"/health": health})
    quick = HealthCheckConfig(interval_seconds=600, timeout_seconds=0.5)

    fleet = await start(plan(quick, gpu={"url": server.url, "type": "vllm"}))

    assert (only(fleet).status, only(fleet).last_error) == (Status.UNHEALTHY, error)


async def test_a_refused_connection_says_so(plan, start, free_port):
    fleet = await start(plan(gpu=f"http://127.0.0.1:{free_port}"))

    assert only(fleet).last_error.startswith("connection failed: ")


async def test_an_unknown_name_says_so(plan, start):
    fleet = await start(plan(gpu="http://nobody.invalid:8000"))

    assert only(fleet).last_error.startswith("DNS resolution failed: ")


@pytest.fixture
def authority():
    return trustme.CA()


@pytest.fixture
def tls(authority):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


async def test_an_untrusted_certificate_says_so(serve, plan, start, tls):
    server = await serve("vllm", "tiny", ssl=tls)

    fleet = await start(plan(gpu=server.url))

    assert only(fleet).last_error.startswith("TLS certificate error: ")


async def test_a_certificate_is_trusted_as_the_operator_says(serve, plan, start, tls, authority, tmp_path):
    server = await serve("vllm", "tiny", ssl=tls)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))

    fleet = await start(
        plan(
            vouched={"url": server.url, "tls_ca_file": str(tmp_path / "ca.pem")},
            unchecked={"url": server.url, "tls_verify": False},
        )
    )

    assert [backend.status for backend in fleet.snapshot.backends] == [Status.HEALTHY, Status.HEALTHY]


async def test_no_bytes_make_a_watch_fail(serve, plan, start, fast, eventually):
    server = await serve("vllm", "tiny")
    fleet = await start(plan(fast, gpu={"url": server.url, "type": "vllm"}))

    for nonsense in (b"\xff\xfe", b"[" * 100_000, b'{"data":[{"id":"\\ud800"}]}', b'{"data":[{"id":1e999}]}', b"null"):
        server.answers["/v1/models"] = nonsense
        asked = len(server.asked)
        await eventually(lambda asked=asked: len(server.asked) > asked + 5)

    assert only(fleet).status is Status.HEALTHY


async def test_slow_backends_delay_no_other(serve, plan, start):
    hanging = [await serve("vllm", "tiny", answers={"/health": _hang}) for _ in range(10)]
    quick = HealthCheckConfig(interval_seconds=600, timeout_seconds=0.5)
    loop = asyncio.get_running_loop()
    began = loop.time()

    fleet = await start(plan(quick, **{f"g{n}": {"url": s.url, "type": "vllm"} for n, s in enumerate(hanging)}))

    assert loop.time() - began < 2
    assert {backend.status for backend in fleet.snapshot.backends} == {Status.UNHEALTHY}


async def test_a_kind_of_a_plugin_is_probed_as_it_says(serve, plan, start):
    from nexus.fleet.kinds import GENERIC

    kind = msgspec.structs.replace(GENERIC, name="acme", health_path="/alive", probe_headers={"X-Acme": "1"})
    server = await serve("generic", "tiny", answers={"/alive": b""})

    await start(plan(gpu={"url": server.url, "type": "acme"}, kinds=[kind]))

    assert server.asked[0] == "GET /alive"
    assert server.requests[0].headers["X-Acme"] == "1"
