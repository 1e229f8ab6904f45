"""Against an API server over real HTTP: servers follow the slices, whatever becomes of the connection."""

import asyncio
import json

import pytest

from nexus_kubernetes.config import ServiceConfig
from nexus_kubernetes.following import Pace, pause_s

QUICK_HOLD_S = 0.3
"""How long the discoverers of these tests keep a server that has vanished."""
ONE = "http://10.0.0.1:8000"
TWO = "http://10.0.0.2:8000"


@pytest.fixture
async def following(api, fake_api, look):
    """Give a discoverer that has found the one pod there is, and watches."""
    api.put(fake_api.slice_of("vllm-x", fake_api.pod("vllm-0", "10.0.0.1")))
    looking = look()
    await looking.until_found(vllm_0=ONE)
    await looking.until(lambda: api.watches == 1)
    return looking


@pytest.fixture
def two_pods(fake_api):
    return fake_api.slice_of("vllm-x", fake_api.pod("vllm-0", "10.0.0.1"), fake_api.pod("vllm-1", "10.0.0.2"))


def verbs(api):
    return [verb for verb, _ in api.asked]


async def test_servers_follow_the_slices_of_their_service(api, fake_api, following, two_pods):
    api.put(two_pods)
    await following.until_found(vllm_0=ONE, vllm_1=TWO)
    api.put(fake_api.slice_of("vllm-y", fake_api.pod("vllm-2", "10.0.0.3"), ports=[("http", 9000)]))
    await following.until_found(vllm_0=ONE, vllm_1=TWO, vllm_2="http://10.0.0.3:9000")
    api.delete("vllm-x")
    await following.until_found(vllm_2="http://10.0.0.3:9000")

    assert verbs(api) == ["list", "watch"]


async def test_what_is_asked_is_what_a_role_for_one_namespace_allows(api, following):
    (_, listed), (_, watched) = api.asked

    assert listed == {"labelSelector": "kubernetes.io/service-name=vllm"}
    assert watched == {
        "labelSelector": "kubernetes.io/service-name=vllm",
        "watch": "True",
        "allowWatchBookmarks": "True",
        "resourceVersion": "101",
        "timeoutSeconds": "300",
    }
    assert set(api.tokens) == {"Bearer the-token"}


async def test_a_service_without_pods_is_known_to_be_empty(api, fake_api, following):
    api.put(fake_api.slice_of("vllm-x"))

    await following.until_found()


async def test_before_the_first_list_nothing_is_yielded(api, look):
    api.refused["list"] = 503
    looking = look()

    await looking.until(lambda: verbs(api).count("list") > 2)

    assert looking.looks == []


async def test_a_watch_that_ends_goes_on_from_where_it_was(api, following, two_pods):
    api.bookmark()
    version = str(api.version)
    api.end_watches()
    await following.until(lambda: verbs(api) == ["list", "watch", "watch"])
    api.put(two_pods)
    await following.until_found(vllm_0=ONE, vllm_1=TWO)

    assert api.asked[-1][1]["resourceVersion"] == version


async def test_a_connection_that_is_cut_is_made_anew(api, capture_events, following, two_pods):
    api.drop_watches()
    api.put(two_pods)

    await following.until_found(vllm_0=ONE, vllm_1=TWO)
    assert capture_events.named("service_watch_failed") == []


@pytest.mark.parametrize("way", ["event", "status"])
async def test_when_a_version_is_gone_the_slices_are_listed_anew(api, capture_events, following, two_pods, way):
    if way == "event":
        api.slices.clear()
        api.slices["vllm-x"] = two_pods
        api.expire()
    else:
        api.put_unseen(two_pods)
        api.end_watches()

    await following.until_found(vllm_0=ONE, vllm_1=TWO)
    assert verbs(api).count("list") == 2
    assert capture_events.named("service_watch_failed") == []


@pytest.mark.parametrize(
    "garbage",
    [
        b"<html>\n",
        b"{}\n",
        b'{"type": "ADDED"}\n',
        b'{"type": "ADDED", "object": {"metadata": 5}}\n',
        b'{"type": "ADDED", "object": {"metadata": {}, "endpoints": [{"addresses": "10.0.0.9"}]}}\n',
        b'{"type": "VANISHED", "object": {"metadata": {}}}\n',
        b'{"type": "ERROR", "object": 7}\n',
        b"\xff\n",
    ],
)
async def test_an_event_that_cannot_be_read_leads_to_a_new_list(api, following, two_pods, garbage):
    api.slices["vllm-x"] = two_pods

    api.say(garbage)

    await following.until_found(vllm_0=ONE, vllm_1=TWO)


@pytest.mark.parametrize("end", ["cut", "in good order"])
async def test_half_an_event_is_ignored(api, following, two_pods, end):
    api.say(b'{"type": "DELETED", "object": {"metadata": {"name": "vllm-x"')
    (api.drop_watches if end == "cut" else api.end_watches)()
    api.put(two_pods)

    await following.until_found(vllm_0=ONE, vllm_1=TWO)
    assert {len(seen) for seen in following.looks} == {1, 2}


@pytest.mark.parametrize("way", ["deleted and created anew", "in another slice", "seen in two lists"])
async def test_an_endpoint_that_moves_is_never_missing(api, fake_api, following, way):
    pod = fake_api.pod("vllm-0", "10.0.0.1")
    api.put(fake_api.slice_of("vllm-w", fake_api.pod("vllm-2", "10.0.0.3")))
    three = "http://10.0.0.3:8000"
    await following.until_found(vllm_0=ONE, vllm_2=three)

    if way == "seen in two lists":
        gone = api.slices.pop("vllm-x")
        api.expire()
        await following.until(lambda: verbs(api).count("list") == 2 and api.watches == 1)
        api.put(gone)
    else:
        api.delete("vllm-x")
        await asyncio.sleep(0.05)
        api.put(fake_api.slice_of("vllm-x" if way == "deleted and created anew" else "vllm-y", pod))
    await asyncio.sleep(QUICK_HOLD_S)
    api.put(fake_api.slice_of("vllm-w"))

    await following.until_found(vllm_0=ONE)
    assert all("vllm-0" in {found.name for found in seen} for seen in following.looks)


async def test_a_service_that_is_deleted_is_empty_after_a_while(api, capture_events, following):
    api.delete("vllm-x")

    await following.until_found()
    assert "knows no EndpointSlice" in capture_events.named("service_incomplete")[0]["reason"]


async def test_an_api_server_that_hangs_does_not_hold_up_the_end(api, look):
    api.is_hanging = True
    looking = look()
    await looking.until(lambda: api.asked)

    began = asyncio.get_running_loop().time()
    await looking.stop()

    assert asyncio.get_running_loop().time() - began < 1.0
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("discover-")]


async def test_a_burst_of_changes_is_read_at_once(api, fake_api, following):
    """The event loop belongs to the requests: 5000 endpoints are not read anew for each of 50 changes."""
    for number in range(50):
        pods = [fake_api.pod(f"p-{number}-{n}", f"10.1.{number}.{n + 1}") for n in range(100)]
        api.put(fake_api.slice_of(f"s-{number}", *pods))

    await following.until(lambda: len(following.looks[-1]) == 5001)

    assert len(following.looks) < 10


async def test_empty_lines_are_no_events(api, following, two_pods):
    api.say(b"\n\r\n")
    api.put(two_pods)

    await following.until_found(vllm_0=ONE, vllm_1=TWO)
    assert verbs(api) == ["list", "watch"]


@pytest.mark.parametrize(
    ("verb", "code"), [("list", 401), ("list", 429), ("list", 500), ("watch", 403), ("watch", 410)]
)
async def test_while_it_is_refused_the_last_good_set_stays_with_one_warning(
    api, capture_events, following, two_pods, verb, code
):
    api.refused[verb] = code
    api.drop_watches()
    before = len(api.asked)

    await following.until(lambda: len(api.asked) > before + 6)

    assert following.urls == {"vllm-0": ONE}
    (warning,) = capture_events.named("service_watch_failed")
    assert (warning["service"], warning["namespace"], warning["servers"]) == ("vllm", "llm", 1)
    assert warning["reason"].startswith(f"{code}: Refused: endpointslices.discovery.k8s.io is forbidden")

    api.refused.clear()
    await following.until(lambda: api.watches == 1)
    api.put(two_pods)
    await following.until_found(vllm_0=ONE, vllm_1=TWO)
    assert len(capture_events.named("service_watch_resumed")) == 1


async def test_a_refusal_at_the_start_is_logged_at_once(api, capture_events, look):
    api.refused["list"] = 403

    looking = look()

    await looking.until(lambda: len(api.asked) == 1 and capture_events.named("service_watch_failed"))
    assert looking.looks == []


async def test_services_do_not_wait_for_each_other(api, fake_api, look):
    api.put(fake_api.slice_of("vllm-x", fake_api.pod("vllm-0", "10.0.0.1")))
    api.put(fake_api.slice_of("ollama-x", fake_api.pod("ollama-0", "10.0.0.7"), service="ollama"))

    looking = look(ServiceConfig(service="vllm"), ServiceConfig(service="ollama", port=11434), namespace="llm")

    await looking.until_found(vllm_0=ONE)


async def test_a_missing_port_is_logged_once(api, fake_api, capture_events, look):
    api.put(fake_api.slice_of("vllm-x", fake_api.pod("vllm-0", "10.0.0.1"), ports=[("http", 8000), ("metrics", 9000)]))
    looking = look()
    await looking.until_found()

    api.put(fake_api.slice_of("vllm-x", fake_api.pod("vllm-1", "10.0.0.2"), ports=[("http", 8000), ("metrics", 9000)]))
    api.put(fake_api.slice_of("vllm-y", fake_api.pod("vllm-2", "10.0.0.3")))

    await looking.until_found(vllm_2="http://10.0.0.3:8000")
    (warning,) = capture_events.named("service_incomplete")
    assert "http (8000), metrics (9000)" in warning["reason"]


async def test_a_namespace_that_is_not_configured_is_that_of_the_context(api, fake_api, look):
    api.put(fake_api.slice_of("vllm-x", fake_api.pod("vllm-0", "10.0.0.1")))

    await look(namespace="llm").until_found(vllm_0=ONE)
    await look(namespace="llm", context="other").until_found()
    await look(namespace=None).until_found()
    await look(ServiceConfig(service="vllm", namespace="llm"), namespace=None).until_found(vllm_0=ONE)


async def test_an_unreachable_api_server_is_logged(capture_events, configured, look, api, tmp_path):
    api.url = "http://127.0.0.1:9"

    looking = look()

    await looking.until(lambda: capture_events.named("service_watch_failed"))
    assert looking.looks == []


async def test_a_slice_of_a_thousand_endpoints_is_read(api, fake_api, following):
    pods = [fake_api.pod(f"vllm-{n}", f"10.1.{n // 250}.{n % 250 + 1}") for n in range(900)]
    big = fake_api.slice_of("vllm-x", *pods)
    big["metadata"]["annotations"] = {"padding": "x" * 300_000}

    assert len(json.dumps(big)) > 400_000
    api.put(big)

    await following.until(lambda: len(following.urls) == 900)


def test_pauses_grow_and_are_spread():
    pace = Pace(first_retry_s=0.5, max_retry_s=30)

    assert [pause_s(n, pace, 1.0) for n in (1, 2, 3, 7, 500)] == [0.5, 1.0, 2.0, 30.0, 30.0]
    assert [pause_s(n, pace, 0.0) for n in (1, 2, 7)] == [0.25, 0.5, 15.0]
