"""Canary prompts on every path through a started proxy: whatever happens, no backend of the open zone hears one."""

import json
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.client import IncompleteRead
from typing import NamedTuple

import pytest

from nexus.simulator import (
    BadHeaders,
    CommentsOnly,
    Cut,
    ErrorEvent,
    Garbage,
    HangUp,
    HtmlPage,
    Redirect,
    Refuse,
    Reset,
    Settings,
    SimulatedModel,
    Simulator,
    Stall,
    Status,
    Unfinished,
    in_thread,
)
from nexus.testing.client import ask
from nexus.testing.fleets import table_of
from nexus.wire.protocols import ENDPOINTS
from tests.support.process import NexusProcess, run_nexus

CANARY = "canary-of-privacy-sings"
MODELS = ("secret", "public")
NAMES = ("secret", "innocent", "far", "any", "retired")
"""The model itself, an alias, an alias of that, an alias of two models, and a name of which only fallbacks are left."""
CHATS = ("/v1/chat/completions", "/v1/messages", "/api/chat", "/v1/responses")

CONFIG = """
[timeouts]
first_byte_seconds = 0.4
whole_answer_seconds = 0.4
stream_idle_seconds = 0.4

[health_check]
enabled = false

[routing.aliases]
innocent = "secret"
far = "innocent"
any = ["public", "secret"]

[routing.fallbacks]
secret = ["public"]
any = ["public"]
retired = ["public", "secret"]

[[routing.policies]]
model_pattern = "innocent"
privacy = "unrestricted"

[[routing.policies]]
model_pattern = "{secret,retired}*"
privacy = "Restricted"
"""

EVERY_FIELD = {
    "messages": [{"role": "user", "content": CANARY}],
    "prompt": CANARY,
    "input": CANARY,
    "query": CANARY,
    "documents": [CANARY],
    "text_1": CANARY,
    "text_2": CANARY,
    "tokens": [1],
    "voice": CANARY,
    "max_tokens": 9,
}

FORM_HEADERS = {"Content-Type": "multipart/form-data; boundary=frontier"}


def form(model):
    parts = {'file"; filename="a.wav': CANARY, "prompt": CANARY, "model": model}
    lines = (f'--frontier\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n' for k, v in parts.items())
    return ("".join(lines) + "--frontier--\r\n").encode()


def send(nexus, path, model, *, stream=False, headers=None):
    """Send a canary to one endpoint."""
    if ENDPOINTS[path].body == "multipart":
        return ask(nexus.url, path, form(model), headers=FORM_HEADERS | (headers or {}))
    return ask(nexus.url, path, {"model": model, "stream": stream, **EVERY_FIELD}, headers=headers)


class House(NamedTuple):
    """A proxy before two servers of the house and a cloud that has the same models and is preferred to both."""

    nexus: NexusProcess
    one: Simulator
    two: Simulator
    cloud: Simulator

    @property
    def own(self):
        return self.one, self.two


def heard(*simulators):
    """Return the paths on which a canary was heard."""
    return [
        record.path
        for simulator in simulators
        for record in simulator.requests
        if CANARY.encode() in record.body or CANARY in str(record.request)
    ]


def backends(one, two, cloud):
    own = {"type": "generic", "protocols": ["openai", "ollama", "anthropic"]}
    away = own | {"zone": "Open", "priority": 0}
    return table_of(one, **own, priority=90) + table_of(two, **own, priority=99) + table_of(cloud, **away)


@pytest.fixture(scope="module")
def shared_house(tmp_path_factory) -> Iterator[House]:
    one, two, cloud = (Simulator(Settings(name=name, models=MODELS)) for name in ("house-1", "house-2", "cloud"))
    with (
        in_thread(one, two, cloud),
        run_nexus(tmp_path_factory.mktemp("a"), CONFIG + backends(one, two, cloud)) as nexus,
    ):
        yield House(nexus, one, two, cloud)


@pytest.fixture
def house(shared_house) -> Iterator[House]:
    """Give the house; at the end of each test the cloud has heard nothing."""
    for simulator in (*shared_house.own, shared_house.cloud):
        simulator.requests.clear()
    yield shared_house
    for simulator in shared_house.own:
        simulator.faults.clear()
    assert heard(shared_house.cloud) == []


def test_an_unrestricted_canary_is_heard_in_the_cloud(house):
    reply = send(house.nexus, "/v1/chat/completions", "public")

    assert (reply.status, reply.headers["X-Nexus-Privacy-Zone"]) == (200, "open")
    assert heard(house.cloud) == ["/v1/chat/completions"]
    house.cloud.requests.clear()


@pytest.mark.parametrize("path", ENDPOINTS)
def test_no_endpoint_leads_out(house, path):
    for name in NAMES:
        for stream in (False, True):
            send(house.nexus, path, name, stream=stream)

    assert heard(*house.own)


@pytest.mark.parametrize("word", ["restricted", "Restricted", "private", "yes", ""])
@pytest.mark.parametrize("path", CHATS)
def test_a_client_that_asks_for_privacy_has_it(house, path, word):
    send(house.nexus, path, "public", headers={"X-Nexus-Privacy": word})

    assert heard(*house.own)


@pytest.mark.parametrize("headers", [{"X-Nexus-Privacy": "unrestricted"}, {"X-Nexus-Privacy-Zone": "open"}])
def test_a_client_cannot_have_less(house, headers):
    for path in CHATS:
        send(house.nexus, path, "secret", headers=headers)

    assert heard(*house.own)


@pytest.mark.parametrize(
    "fault",
    [
        Refuse(),
        Refuse(kills_active=True),
        HangUp(at="accept"),
        HangUp(at="request"),
        Reset(),
        Stall(phase="before_headers"),
        Stall(phase="status_line"),
        Stall(phase="after_headers"),
        Stall(phase="mid_stream"),
        CommentsOnly(),
        Status(status=500),
        Status(status=503),
        Status(status=429, retry_after="60"),
        Status(status=401),
        Status(status=404, body='{"error":{"message":"model secret not found","code":"model_not_found"}}'),
        Garbage(),
        Redirect(),
        HtmlPage(),
        BadHeaders(),
        ErrorEvent(),
        Cut(),
        Unfinished(),
    ],
    ids=lambda fault: f"{fault.kind}-{getattr(fault, 'phase', getattr(fault, 'status', getattr(fault, 'at', '')))}",
)
def test_no_failure_of_the_house_leads_out(house, fault):
    for simulator in house.own:
        simulator.faults.set(fault)

    requests = [(path, name, stream) for path in CHATS[:3] for name in ("secret", "any") for stream in (False, True)]

    def send_one(asked):
        path, name, stream = asked
        # A stream that its backend breaks is cut for the client, too.
        with suppress(IncompleteRead):
            send(house.nexus, path, name, stream=stream)

    with ThreadPoolExecutor(len(requests)) as pool:
        sent = list(pool.map(send_one, requests))

    assert len(sent) == len(requests)


def test_who_has_to_wait_waits_for_the_house(simulate, start_nexus):
    one, two, cloud = (simulate(name=n, models=MODELS, ttft_s=t) for n, t in (("a", 0.2), ("b", 0.2), ("cloud", 0)))
    full = backends(one, two, cloud).replace("priority = 90", "priority = 90\nmax_in_flight = 1")
    config = CONFIG.replace("whole_answer_seconds = 0.4", "whole_answer_seconds = 9") + full
    nexus = start_nexus(config.replace("priority = 99", "priority = 99\nmax_in_flight = 1"))

    with ThreadPoolExecutor(8) as pool:
        asked = [
            pool.submit(send, nexus, path, name) for path in CHATS[:1] for name in (*NAMES, "secret", "far", "any")
        ]
        # In between, another configuration of the same policies: who waits keeps to them.
        nexus.config_file.write_text(nexus.config_file.read_text() + "\n[queue]\nmax_size = 50\n")
        nexus.send(signal.SIGHUP)
        told = [one.result() for one in asked]

    assert [reply.status for reply in told] == [200] * 8
    assert nexus.log_lines("config_reloaded")
    assert (len(heard(one, two)), heard(cloud)) == (8, [])


def test_a_backend_that_a_reload_puts_out_of_the_house_hears_no_more(simulate, start_nexus):
    one, cloud = simulate(name="gpu-1", models=MODELS), simulate(name="cloud", models=MODELS)
    tables = table_of(one, type="generic") + table_of(cloud, type="generic", zone="open", priority=0)
    nexus = start_nexus(CONFIG + tables)
    before = send(nexus, "/v1/chat/completions", "secret")

    nexus.config_file.write_text(CONFIG + table_of(one, type="generic", zone="OPEN"))
    nexus.send(signal.SIGHUP)
    nexus.wait_for_log("config_reloaded")
    one.requests.clear()
    after = send(nexus, "/v1/chat/completions", "secret")

    assert (before.status, after.status) == (200, 503)
    assert heard(one, cloud) == []


def test_models_that_ollama_passes_on_hear_nothing(simulate, start_nexus):
    passed_on = (
        SimulatedModel("secret", remote_host="https://ollama.com:443"),
        SimulatedModel("public:cloud"),
        SimulatedModel("own"),
    )
    laptop = simulate(name="laptop", kind="ollama", models=passed_on)
    nexus = start_nexus(table_of(laptop, type="ollama"))
    wary = {"X-Nexus-Privacy": "restricted"}

    told = [send(nexus, path, name, headers=wary) for path in CHATS for name in ("secret", "public:cloud")]
    unheard = heard(laptop)
    sent = [send(nexus, "/api/chat", name) for name in ("secret", "public:cloud", "own")]

    assert ({reply.status for reply in told}, unheard) == ({503}, [])
    assert [reply.headers["X-Nexus-Privacy-Zone"] for reply in sent] == ["open", "open", "restricted"]
    assert send(nexus, "/api/chat", "own", headers=wary).status == 200


BREAKING = """
import nexus_privacy.reconciler

def breaks(intent, default):
    raise RuntimeError("for the test")

nexus_privacy.reconciler.demanded_by = breaks
"""


def test_a_plugin_that_breaks_leads_nowhere(simulate, start_nexus, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(BREAKING)
    one, two, cloud = (simulate(name=name, models=MODELS) for name in ("house-1", "house-2", "cloud"))
    nexus = start_nexus(CONFIG + backends(one, two, cloud), environ={"PYTHONPATH": str(tmp_path)})

    told = [send(nexus, path, name) for path in CHATS for name in ("secret", "public") for _ in range(3)]

    assert {reply.status for reply in told} == {503}
    assert {code(reply) for reply in told} == {"policy_unavailable"}
    assert heard(one, two, cloud) == []


def code(reply):
    """Return the error code, wherever the protocol has its place for it."""
    told = reply.json()
    error = told.get("error")
    return error["code"] if isinstance(error, dict) and "code" in error else told.get("code", json.dumps(told))


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"public","model":"secret","messages":[{"role":"user","content":"%s"}]}' % CANARY.encode(),
        b'{"model":"secret","model":"public","messages":[{"role":"user","content":"%s"}]}' % CANARY.encode(),
        b'{"model":"public","\\u006dodel":"secret","messages":[{"role":"user","content":"%s"}]}' % CANARY.encode(),
    ],
)
def test_two_models_in_one_body_are_refused(house, body):
    reply = ask(house.nexus.url, "/v1/chat/completions", body)

    assert reply.status == 400
    assert heard(*house.own) == []
