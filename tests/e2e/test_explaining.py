"""What is told of decisions agrees with what really happens."""

import json
import threading

import pytest

from nexus.simulator import Settings, Simulator, Status, in_thread
from nexus.testing.client import ask, chat
from nexus.testing.fleets import backend_table, table_of
from nexus.testing.ports import free_port
from nexus.testing.waiting import until
from nexus.wire.composing import SampleRequest, compose
from nexus.wire.protocols import ENDPOINTS
from tests.support.process import run_nexus

EXPLAIN, DECISIONS = "/v1/route/explain", "/v1/route/decisions"
CHATS = {"openai": "/v1/chat/completions", "anthropic": "/v1/messages", "ollama": "/api/chat"}
KEY = "nx-open-sesame"
SECRET = "the canary sings at midnight"
each_protocol = pytest.mark.parametrize("protocol", CHATS)


def explained(fleet, body, path="/v1/chat/completions", **headers):
    reply = ask(fleet.url, f"{EXPLAIN}?endpoint={path}", body, headers=headers)
    assert reply.status == 200, reply.body
    return reply.json()


def decision(fleet, id_):
    return ask(fleet.url, f"{DECISIONS}/{id_}").json()


def settled(fleet, id_):
    """Wait until that request has its outcome, and return all of it: the answer is out a moment before."""
    return until(lambda: (told := decision(fleet, id_))["outcome"] and told)


@pytest.mark.parametrize("path", ENDPOINTS)
def test_every_endpoint_can_be_explained(fleet, path):
    content_type, body = compose(ENDPOINTS[path], SampleRequest(model="llama3"))

    told = ask(fleet.url, f"{EXPLAIN}?endpoint={path}", body, headers={"Content-Type": content_type.decode()}).json()

    assert (told["request"]["path"], told["source"]) == (path, "proxy")


@pytest.mark.parametrize("model", ["llama3", "gpt-4o", "retired", "qwen3", "gemma"])
def test_who_would_be_asked_is_who_is_asked(fleet, openai_client, model):
    told = explained(fleet, chat(model))["decision"]

    answer = openai_client.chat.completions.with_raw_response.create(**chat(model))

    assert told["decision"] == "route"
    assert answer.headers["X-Nexus-Backend"] == told["backend"]
    assert answer.headers["X-Nexus-Route-Reason"] == told["route_reason"]
    assert answer.headers.get("X-Nexus-Fallback-Model") == told["fallback_model"]


@each_protocol
def test_who_would_be_refused_is_refused_in_the_same_words(fleet, protocol):
    body = chat("nobody-has-it")

    told = explained(fleet, body, CHATS[protocol])["decision"]
    refused = ask(fleet.url, CHATS[protocol], body)

    assert (told["decision"], told["status"]) == ("reject", refused.status)
    assert told["message"] in refused.body.decode()


@each_protocol
@pytest.mark.parametrize("body", [b"{", b'{"messages":[]}', b'{"model":7}', b'{"model":"llama3","stream":"yes"}', b""])
def test_what_is_wrong_with_a_request_is_wrong_with_its_explanation(fleet, protocol, body):
    path = CHATS[protocol]

    one, other = ask(fleet.url, path, body), ask(fleet.url, f"{EXPLAIN}?endpoint={path}", body)

    assert (one.status, without_ids(one)) == (other.status, without_ids(other))


def without_ids(reply):
    return {name: value for name, value in reply.json().items() if name != "request_id"}


def test_the_limits_are_those_of_a_request(fleet):
    body = b'{"model":"llama3","x":"' + b"x" * 999_975 + b'"}'
    coded = {"Content-Encoding": "br", "Content-Type": "application/json"}

    assert ask(fleet.url, EXPLAIN, body).status == 200
    assert ask(fleet.url, EXPLAIN, body + b"  ").status == 413
    assert ask(fleet.url, EXPLAIN, b"{}", headers=coded).json()["error"]["code"] == "unsupported_content_encoding"
    assert ask(fleet.url, EXPLAIN).status == 405


def test_nothing_is_sent_to_explain(fleet):
    before = len(fleet.gpu.requests)

    for _ in range(5):
        explained(fleet, chat("llama3"))

    assert len(fleet.gpu.requests) == before
    assert all(b["pending_requests"] == 0 for b in fleet.nexus.get_json("/admin/backends")["backends"])


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_can_ask_where_its_decision_is(fleet, openai_client, stream):
    answer = openai_client.chat.completions.with_raw_response.create(
        **chat("gpt-4o", SECRET), stream=stream, extra_headers={"X-Nexus-Explain": "1"}
    )
    if stream:
        assert list(answer.parse())
    id_ = answer.headers["X-Nexus-Decision-Id"]

    told = settled(fleet, id_)

    assert id_ == answer.headers["X-Request-Id"] == told["id"]
    assert (told["source"], told["request"]["model"]) == ("request", "gpt-4o")
    assert told["rounds"][0]["models"][0]["resolved"] == "llama3"
    assert told["decision"]["backend"] == answer.headers["X-Nexus-Backend"]
    assert told["outcome"]["status"] == 200
    assert told["rounds"][0]["models"][0]["stages"][-1]["facts"]["strategy"] == "smart"
    assert SECRET not in json.dumps(told)


@each_protocol
@pytest.mark.parametrize("stream", [False, True])
def test_an_error_says_so_too(fleet, protocol, stream):
    refused = ask(fleet.url, CHATS[protocol], chat("nobody-has-it", stream=stream), headers={"X-Nexus-Explain": "1"})

    told = settled(fleet, refused.headers["X-Nexus-Decision-Id"])

    assert (refused.status, told["decision"]["code"]) == (404, "model_not_found")
    assert told["outcome"]["code"] == "model_not_found"
    assert told["why_not"] != []


def test_who_does_not_ask_is_told_nothing_and_is_listed_all_the_same(fleet):
    answer = ask(fleet.url, "/v1/chat/completions", chat("llama3"))

    told = settled(fleet, answer.headers["X-Request-Id"])

    assert "X-Nexus-Decision-Id" not in answer.headers
    assert {stage["facts"] is None for stage in told["rounds"][0]["models"][0]["stages"]} == {True}


def test_a_request_that_was_not_understood_has_no_decision(fleet):
    refused = ask(fleet.url, "/v1/chat/completions", b"{", headers={"X-Nexus-Explain": "1"})

    assert "X-Nexus-Decision-Id" not in refused.headers
    assert ask(fleet.url, f"{DECISIONS}/{refused.headers['X-Request-Id']}").status == 404


@pytest.mark.parametrize(("headers", "shape"), [({}, "error"), ({"anthropic-version": "2023-06-01"}, "type")])
def test_a_decision_that_is_not_kept_is_not_found(fleet, headers, shape):
    reply = ask(fleet.url, f"{DECISIONS}/nobody", headers=headers)

    assert (reply.status, shape in reply.json()) == (404, True)
    assert ("request_id" in reply.json()) == (shape == "type")


def test_the_last_decisions_are_listed(fleet):
    for model in ("llama3", "qwen3", "nobody-has-it"):
        reply = ask(fleet.url, "/v1/chat/completions", chat(model), headers={"X-Request-Id": f"listed-{model}"})
    last_id = settled(fleet, reply.headers["X-Nexus-Request-Id"])["id"]

    newest = ask(fleet.url, f"{DECISIONS}?limit=3").json()["decisions"]
    rejected = ask(fleet.url, f"{DECISIONS}?decision=reject&status=404&limit=1").json()["decisions"]

    names = [row["client_request_id"] for row in newest]
    assert names == ["listed-nobody-has-it", "listed-qwen3", "listed-llama3"]
    assert [row["id"] for row in rejected] == [last_id]
    assert ask(fleet.url, f"{DECISIONS}?color=red").status == 400


class TestLosingBackends:
    def test_a_request_that_failed_over_has_its_rounds_in_one_record(self, simulate, start_nexus):
        flaky, steady = simulate(name="flaky", kind="vllm"), simulate(name="steady", kind="vllm")
        nexus = start_nexus(table_of(flaky, priority=1) + table_of(steady, priority=90))
        flaky.faults.set(Status(status=503))

        answer = ask(nexus.url, "/v1/chat/completions", chat(), headers={"X-Nexus-Explain": "1"})
        told = until(
            lambda: (told := nexus.get_json(f"{DECISIONS}/{answer.headers['X-Nexus-Decision-Id']}"))["outcome"] and told
        )

        assert answer.headers["X-Nexus-Backend"] == "steady"
        assert [found["decision"]["backend"] for found in told["rounds"]] == ["flaky", "steady"]
        assert [attempt["backend"] for attempt in told["outcome"]["attempts"]] == ["flaky", "steady"]
        assert told["why_not"] == [{"backend": "flaky", "why": "it was tried before, and failed (status, 503)"}]

    @each_protocol
    @pytest.mark.parametrize("stream", [False, True])
    def test_a_503_says_why_nobody_would_do_and_what_would_help(self, simulate, start_nexus, protocol, stream):
        other = simulate(name="other", kind="vllm", models=("qwen3",))
        keys = {"type": "generic", "protocols": ["openai", "anthropic", "ollama"], "max_in_flight": 1}
        config = "".join(
            f'[[backends]]\nname = "{name}"\nurl = "http://127.0.0.1:{free_port()}"\n'
            + "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())
            + "[backends.models.llama3]\n"
            for name in ("dead-1", "dead-2")
        )
        nexus = start_nexus(config + table_of(other))

        refused = until(lambda: (reply := ask(nexus.url, CHATS[protocol], chat(stream=stream))).status == 503 and reply)
        context, details = refused.json()["context"], json.loads(refused.headers["X-Nexus-Rejection-Details"])

        assert refused.headers["Content-Type"] == "application/json"
        assert int(refused.headers["Retry-After"]) > 0
        assert [refused.headers[f"X-Nexus-{name}"] for name in ("Backend", "Backend-Type", "Route-Reason")] == [
            "none"
        ] * 3
        assert context["available_backends"] == ["other"]
        assert {reason["agent_id"] for reason in context["rejection_reasons"]} == {"dead-1", "dead-2"}
        assert all(reason["reason"] for reason in context["rejection_reasons"])
        assert {detail["agent_id"] for detail in details} == {"dead-1", "dead-2"}
        assert refused.headers["X-Nexus-Rejection-Reasons"].startswith("2 agents rejected by ")

    @pytest.mark.parametrize(
        ("queue", "code"), [("enabled = false", "overloaded"), ("max_wait_seconds = 0.1", "queue_timeout")]
    )
    def test_waiting_in_vain_names_who_was_full(self, simulate, start_nexus, queue, code):
        slow = simulate(name="slow", kind="vllm", ttft_s=3.0)
        nexus = start_nexus(f"[queue]\n{queue}\n" + table_of(slow, max_in_flight=1))
        holder = threading.Thread(target=ask, args=(nexus.url, "/v1/chat/completions", chat()))
        holder.start()
        until(lambda: nexus.get_json("/admin/backends")["backends"][0]["pending_requests"] == 1)

        told = ask(nexus.url, EXPLAIN, chat()).json()["decision"]
        refused = ask(nexus.url, "/v1/chat/completions", chat())
        holder.join()

        assert told["full"] == ["slow"]
        assert (refused.status, refused.json()["error"]["code"]) == (503, code)
        assert told["code"] == (code if code == "overloaded" else None)
        (reason,) = refused.json()["context"]["rejection_reasons"]
        assert (reason["agent_id"], reason["reason"]) == ("slow", "Backend is at its limit")
        assert refused.json()["context"]["suggested_actions"] != []


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    gpu = Simulator(Settings(name="gpu-1", kind="vllm"))
    config = '[server]\napi_keys = ["env:CLIENT_KEY"]\n'
    with in_thread(gpu):
        folder = tmp_path_factory.mktemp("guarded")
        with run_nexus(folder, config + table_of(gpu), environ={"CLIENT_KEY": KEY}) as nexus:
            yield nexus


class TestWhoMayAsk:
    @pytest.mark.parametrize("path", [EXPLAIN, DECISIONS, f"{DECISIONS}/x"])
    def test_a_key_is_wanted_wherever_one_is_wanted_for_requests(self, guarded, path):
        body = chat() if path == EXPLAIN else None

        without = ask(guarded.url, path, body)
        known = ask(guarded.url, path, body, headers={"Authorization": f"Bearer {KEY}"})

        assert (without.status, without.json()["error"]["code"]) == (401, "invalid_api_key")
        assert known.status == (404 if path.endswith("/x") else 200)

    def test_the_refusal_is_in_the_protocol_of_what_is_explained(self, guarded):
        refused = ask(guarded.url, f"{EXPLAIN}?endpoint=/api/chat", chat())

        assert (refused.status, refused.json()["code"]) == (401, "invalid_api_key")

    def test_the_command_line_shows_the_configured_key(self, guarded, command, tmp_path):
        config = ("--config", str(guarded.config_file), "--port", str(guarded.port))

        told = command("explain", "--model", "llama3", *config, CLIENT_KEY=KEY)

        assert told.returncode == 0, told.stderr
        assert told.stdout.startswith(f"asked the proxy that runs at http://127.0.0.1:{guarded.port}\n")

    def test_the_command_line_says_when_it_has_no_key(self, guarded, command):
        told = command("explain", "--model", "llama3", "--port", str(guarded.port))
        failed = command("explain", "--model", "llama3", "--url", guarded.url, "--api-key", "env:X", X="wrong")

        for refused in (told, failed):
            assert (refused.returncode, refused.stdout) == (77, "")
            assert f"the proxy at {guarded.url} asks for a key" in refused.stderr


class TestTheCommandLine:
    def test_a_proxy_that_runs_is_asked_because_it_knows_more(self, fleet, command, tmp_path):
        (tmp_path / "body.json").write_text(json.dumps({**chat("gone", SECRET), "tools": [{"type": "function"}]}))

        text = command("explain", "--url", fleet.url, "--file", "body.json", "--model", "gpt-4o")
        as_json = command("explain", "--url", fleet.url, "--model", "gemma", "--endpoint", "/api/chat", "--json")

        assert text.returncode == as_json.returncode == 0, text.stderr
        assert text.stdout.startswith(f"asked the proxy that runs at {fleet.url}\n")
        assert "llama3 (POST" not in text.stdout
        assert "needs tools" in text.stdout
        assert "route: gpu-1 as llama3" in text.stdout
        assert SECRET not in text.stdout
        assert json.loads(as_json.stdout)["decision"]["backend"] == "laptop"
        assert json.loads(as_json.stdout)["source"] == "proxy"
        assert as_json.stderr == f"asked the proxy that runs at {fleet.url}\n"

    def test_a_body_that_the_proxy_would_refuse_is_refused(self, fleet, command, tmp_path):
        (tmp_path / "body.json").write_text("{")

        failed = command("explain", "--url", fleet.url, "--file", "body.json")

        assert failed.returncode == 1
        assert "refuses such a request: 400 invalid_json" in failed.stderr

    def test_without_a_proxy_the_fleet_is_looked_at(self, simulate, command, tmp_path):
        gpu = simulate(name="gpu-1", kind="vllm")
        port = f"[server]\nport = {free_port()}\n"
        (tmp_path / "nexus.toml").write_text(port + table_of(gpu) + backend_table("dead", "http://127.0.0.1:9"))

        told = command("explain", "--model", "llama3", "--json")

        assert json.loads(told.stdout)["source"] == "probes"
        assert json.loads(told.stdout)["decision"]["backend"] == "gpu-1"
        assert [reason["backend"] for reason in json.loads(told.stdout)["why_not"]] == ["dead"]
