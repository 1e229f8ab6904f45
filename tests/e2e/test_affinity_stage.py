"""With nexus-proxy-affinity, conversations stay where their prompts are cached, and all servers get their part."""

from collections import Counter
from contextlib import ExitStack

import openai
import pytest

from nexus.testing.client import ask
from nexus.testing.fleets import backend_table
from nexus.testing.ports import free_port
from nexus.testing.waiting import until
from tests.support.process import simulator_process

pytest.importorskip("nexus_affinity")

NAMES = ("gpu-1", "gpu-2", "gpu-3")
INSTRUCTIONS = {"role": "system", "content": "Answer briefly, and only what was asked. " * 40}
CACHE = ("--kind", "vllm", "--cache-tokens", "200000", "--prefill-tokens-per-second", "100000")
CONFIG = """
[discovery]
enabled = false

[health_check]
interval_seconds = 0.3
"""


class Conversation:
    """Messages that grow from turn to turn, and what was reported about them."""

    def __init__(self, client, number):
        self._client = client
        self._messages = [INSTRUCTIONS, {"role": "user", "content": f"{number}: " + f"subject {number} " * 300}]
        self.backends = []
        self.cached = self.cacheable = 0

    @property
    def body(self):
        return {"model": "llama3", "messages": self._messages}

    def turn(self):
        answer = self._client.chat.completions.with_raw_response.create(**self.body)
        self.backends.append(answer.headers["X-Nexus-Backend"])
        told = answer.parse()
        if len(self.backends) > 1:
            self.cached += told.usage.prompt_tokens_details.cached_tokens
            self.cacheable += self._before
        self._before = told.usage.prompt_tokens
        said = {"role": "assistant", "content": told.choices[0].message.content}
        self._messages += [said, {"role": "user", "content": f"more of turn {len(self.backends)} " * 60}]


@pytest.fixture
def ports():
    return {name: free_port() for name in NAMES}


@pytest.fixture
def fleet(start_nexus, ports):
    """Start three servers and a proxy; the servers can be restarted."""
    with ExitStack() as running:
        servers = {}

        def start(name):
            servers[name] = running.enter_context(simulator_process("--name", name, "--port", str(ports[name]), *CACHE))

        for name in NAMES:
            start(name)
        tables = "".join(backend_table(name, servers[name][1], type="vllm") for name in NAMES)
        nexus = start_nexus(CONFIG + tables)

        def restart(name):
            process, _ = servers[name]
            process.kill()
            process.wait()
            until(lambda: _status(nexus, name) != "healthy")
            start(name)
            until(lambda: _status(nexus, name) == "healthy")

        yield nexus, restart


def _status(nexus, name):
    return next(row["status"] for row in nexus.get_json("/admin/backends")["backends"] if row["name"] == name)


@pytest.fixture
def client(fleet):
    with openai.OpenAI(base_url=f"{fleet[0].url}/v1", api_key="unused", max_retries=0) as client:
        yield client


def counter(nexus, name):
    lines = ask(nexus.url, "/metrics").body.decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


def expected(nexus, body):
    """Return how much of a prompt is expected in the cache of each backend, as an explanation says."""
    explained = ask(nexus.url, "/v1/route/explain", body).json()
    stages = [stage for model in explained["rounds"][0]["models"] for stage in model["stages"]]
    (facts,) = [stage["facts"] for stage in stages if stage["stage"] == "affinity"]
    return {row["backend"]: row["cached_kib"] for row in facts["candidates"]}


def test_conversations_stay_where_they_are_cached_and_the_work_is_spread(fleet, client):
    nexus, _ = fleet
    conversations = [Conversation(client, number) for number in range(8)]

    for _ in range(5):
        for conversation in conversations:
            conversation.turn()

    assert all(len(set(conversation.backends)) == 1 for conversation in conversations)
    assert sum(c.cached for c in conversations) > 0.95 * sum(c.cacheable for c in conversations)
    spread = Counter(backend for conversation in conversations for backend in conversation.backends)
    assert sorted(spread.values()) == [10, 15, 15]
    blocks = counter(nexus, "nexus_affinity_prompt_blocks_total")
    assert counter(nexus, "nexus_affinity_cached_blocks_total") > 0.7 * blocks > 0
    assert counter(nexus, "nexus_affinity_requests_total") == 40


def test_a_restarted_server_gets_no_preference(fleet, client):
    nexus, restart = fleet
    conversation = Conversation(client, 1)
    conversation.turn()
    home = conversation.backends[0]
    before = expected(nexus, conversation.body)

    restart(home)

    assert before[home] >= 4
    assert expected(nexus, conversation.body) == dict.fromkeys(NAMES, 0)


def test_a_session_header_is_followed_where_prompts_are_short(fleet, client):
    def backend(session):
        headers = {"X-Session-ID": session}
        question = [{"role": "user", "content": "hi"}]
        answer = client.chat.completions.with_raw_response.create(
            model="llama3", messages=question, extra_headers=headers
        )
        return answer.headers["X-Nexus-Backend"]

    homes = {session: backend(session) for session in "abc"}

    assert set(homes.values()) == set(NAMES)
    assert all(backend(session) == home for session, home in homes.items() for _ in range(3))
