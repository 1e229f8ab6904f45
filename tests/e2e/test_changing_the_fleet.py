"""Backends are added, changed and removed while a started proxy serves."""

import json
import signal
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import openai
import pytest

from nexus.testing.client import ask, chat
from nexus.testing.fleets import backend_table, table_of
from nexus.testing.waiting import until
from tests.support.process import run_nexus

STORE = '[store]\nkind = "sqlite"\n[discovery]\nenabled = false\n'
PATH = "/admin/backends"


def rows(nexus):
    return {row["name"]: row for row in nexus.get_json(PATH)["backends"]}


def is_healthy(nexus, name):
    return name in rows(nexus) and rows(nexus)[name]["status"] == "healthy"


def add(nexus, simulator, **keys):
    return ask(nexus.url, PATH, {"name": simulator.name, "url": simulator.url, "type": "vllm", **keys})


def error(reply):
    assert reply.headers["Content-Type"].startswith("application/json")
    return reply.status, reply.json()["error"]["message"]


def test_a_backend_that_is_added_answers_until_it_is_removed(start_nexus, simulate, command):
    gpu = simulate(name="gpu-9", kind="vllm")
    nexus = start_nexus("[discovery]\nenabled = false\n")

    added = command("backends", "add", "gpu-9", gpu.url, "--type", "vllm", "--with", "priority=7")
    until(lambda: is_healthy(nexus, "gpu-9"))
    with openai.OpenAI(base_url=f"{nexus.url}/v1", api_key="none", max_retries=0) as client:
        answer = client.chat.completions.create(model="llama3", messages=[{"role": "user", "content": "hi"}])
    row = rows(nexus)["gpu-9"]
    removed = command("backends", "remove", "gpu-9")
    refused = ask(nexus.url, "/v1/chat/completions", chat())

    assert added.stdout == "gpu-9 is added, until the proxy ends; --persist keeps it\n", added.stderr
    assert answer.choices[0].message.content
    assert (row["discovery_source"], row["priority"], row["backend_type"]) == ("api", 7, "vllm")
    assert removed.stdout == "gpu-9 is removed, with 0 requests under way\n", removed.stderr
    assert refused.status == 404


def test_requests_are_divided_by_the_shares_of_the_file_and_of_the_api(start_nexus, simulate):
    fixed, added = simulate(name="fixed", kind="vllm"), simulate(name="added", kind="vllm")
    nexus = start_nexus(table_of(fixed, type="vllm", share=3))
    assert add(nexus, added).status == 201
    until(lambda: is_healthy(nexus, "added") and is_healthy(nexus, "fixed"))

    def divided():
        replies = [ask(nexus.url, "/v1/chat/completions", chat(max_tokens=1)) for _ in range(80)]
        return Counter(reply.headers["X-Nexus-Backend"] for reply in replies)["fixed"]

    first = divided()
    changed = ask(nexus.url, f"{PATH}/added", {"share": 27}, method="PATCH")
    second = divided()
    refused = ask(nexus.url, f"{PATH}/added", {"share": 0}, method="PATCH")

    assert 48 <= first <= 72
    assert (changed.status, rows(nexus)["added"]["share"], rows(nexus)["fixed"]["share"]) == (200, 27.0, 3.0)
    assert 1 <= second <= 24
    assert refused.status == 400


def test_what_is_kept_is_there_after_a_restart_and_what_is_not_is_gone(start_nexus, simulate):
    kept, lost, changed, given_up = (simulate(name=name) for name in ("kept", "lost", "changed", "given-up"))
    first = start_nexus(STORE)
    assert add(first, kept, persist=True).json()["persist"] is True
    assert add(first, lost).status == 201
    assert add(first, changed).status == 201
    assert ask(first.url, f"{PATH}/changed", {"persist": True, "tier": 4}, method="PATCH").status == 200
    assert add(first, given_up, persist=True).status == 201
    assert ask(first.url, f"{PATH}/given-up", method="DELETE").status == 200
    first.stop()

    second = start_nexus(STORE)

    assert rows(second).keys() == {"kept", "changed"}
    assert (rows(second)["changed"]["tier"], rows(second)["kept"]["discovery_source"]) == (4, "api")


def test_a_kept_backend_whose_key_is_gone_is_a_warning_at_the_start(start_nexus, simulate):
    gpu = simulate(name="gpu-9")
    first = start_nexus(STORE, environ={"GPU_KEY": "sesame-12345"})
    assert add(first, gpu, persist=True, api_key="env:GPU_KEY").status == 201
    first.stop()

    second = start_nexus(STORE)

    (line,) = second.wait_for_log("added_backend_left_out")
    assert "the variable GPU_KEY is not set" in line["reason"]
    assert rows(second) == {}


def test_removing_a_backend_under_load_loses_nothing(start_nexus, simulate):
    gone, stays = (simulate(name=name, ttft_s=0.3) for name in ("gone", "stays"))
    nexus = start_nexus(table_of(stays, type="vllm"))
    add(nexus, gone, priority=0)
    until(lambda: is_healthy(nexus, "gone"))
    replies = []
    clients = [
        threading.Thread(target=lambda: replies.append(ask(nexus.url, "/v1/chat/completions", chat())))
        for _ in range(20)
    ]

    for client in clients[:10]:
        client.start()
    until(lambda: rows(nexus)["gone"]["pending_requests"])
    removed = ask(nexus.url, f"{PATH}/gone", method="DELETE").json()
    for client in clients[10:]:
        client.start()
    for client in clients:
        client.join(10)

    assert removed["outcome"] == "removed"
    assert removed["pending_requests"] >= 1
    assert [reply.status for reply in replies] == [200] * 20
    assert {reply.headers["X-Nexus-Backend"] for reply in replies} == {"gone", "stays"}


def test_a_key_is_sent_as_soon_as_it_is_added_and_a_new_one_as_soon_as_it_is_changed(start_nexus, simulate):
    gpu = simulate(name="gpu-9")
    nexus = start_nexus("", environ={"OLD_KEY": "old-sesame", "NEW_KEY": "new-sesame"})

    def sent():
        ask(nexus.url, "/v1/chat/completions", chat())
        return gpu.requests[-1].request.header("authorization")

    assert add(nexus, gpu, api_key="env:OLD_KEY").status == 201
    until(lambda: is_healthy(nexus, "gpu-9"))
    before = sent()
    changed = ask(nexus.url, f"{PATH}/gpu-9", {"api_key": "env:NEW_KEY"}, method="PATCH")

    assert (before, changed.status, sent()) == ("Bearer old-sesame", 200, "Bearer new-sesame")
    assert "sesame" not in nexus.log_text() + json.dumps(rows(nexus))


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"prioritty": 1}, "body: unknown key - at `prioritty`; did you mean 'priority'?"),
        ({"priority": 101}, "body: expected `int` <= 100 - at `priority`"),
        ({"type": "vlm"}, "did you mean 'vllm'?"),
        ({"api_key": "sk-literal"}, "body: expected a reference to a secret, not the secret - at `api_key`"),
        ({"headers": {"Authorization": "Bearer x"}}, "expected a reference to a secret, not the secret"),
        ({"url": "http://me:pass@10.0.0.9"}, "body: holds credentials - at `url`; use basic_auth"),
        ({"api_key": "env:NOT_SET_ANYWHERE"}, "the variable NOT_SET_ANYWHERE is not set"),
        ({"api_key": "file:/dev/stdin"}, "no such file"),
        ({"name": None}, "body: expected `str`, got `null` - at `name`"),
        ({"name": "gpu-1"}, "another backend is named 'gpu-1' already"),
        ({"url": "http://127.0.0.1:9"}, "the backend 'gpu-1' is at that address already"),
        ({"url": "http://localhost:9/v1"}, "the backend 'gpu-1' is at that address already"),
        ({"persist": "yes"}, "body: expected `bool` - at `persist`"),
        ({"persist": True}, "the store does not survive a restart; set store.kind to sqlite"),
    ],
)
def test_what_is_wrong_with_a_backend_is_said_as_of_the_file(shared, keys, told):
    status, message = error(ask(shared.url, PATH, {"name": "gpu-9", "url": "http://10.0.0.9", **keys}))

    assert status == 400
    assert told in message
    assert rows(shared).keys() == {"gpu-1"}


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254",
        "http://169.254.1.2:80/latest",
        "http://[::ffff:169.254.169.254]",
        "http://[64:ff9b::a9fe:a9fe]",
        "http://[fd00:ec2::254]",
        "http://[fe80::a9fe:a9fe]",
        "http://100.100.100.200",
        "http://[2002:a9fe:a9fe::1]",
        "http://169.254.169.254.",
        "http://169.254.43518",
        "http://0251.0376.0251.0376",
        "http://025177524776",
        "http://0xa9.0xfe.0xa9.0xfe",
        "http://2852039166",
        "http://0xa9fea9fe",
        "http://%31%36%39.254.169.254",
        "http://127.0.0.1@169.254.169.254",
        "http://\uff11\uff16\uff19.254.169.254",
    ],
)
def test_no_backend_is_added_where_a_cloud_keeps_secrets(shared, url):
    status, _ = error(ask(shared.url, PATH, {"name": "gpu-9", "url": url}))
    by_proxy, _ = error(
        ask(shared.url, PATH, {"name": "gpu-9", "url": "https://10.0.0.9", "https_proxy": f"{url}:3128"})
    )

    assert (status, by_proxy) == (400, 400)
    assert rows(shared).keys() == {"gpu-1"}


def test_no_backend_is_changed_to_where_a_cloud_keeps_secrets_and_the_file_may_name_it(start_nexus, simulate):
    gpu = simulate(name="gpu-9")
    nexus = start_nexus(backend_table("by-the-file", "http://169.254.169.254", type="vllm"))
    add(nexus, gpu)

    status, message = error(ask(nexus.url, f"{PATH}/gpu-9", {"url": "http://169.254.169.254:80"}, method="PATCH"))

    assert (status, "leads to a link-local address" in message) == (400, True)
    assert {name: row["url"] for name, row in rows(nexus).items()} == {
        "by-the-file": "http://169.254.169.254",
        "gpu-9": gpu.url,
    }


def test_no_redirect_of_a_backend_is_followed(start_nexus):
    """An address that is refused would be reached by it."""
    reached = []

    class Redirecting(BaseHTTPRequestHandler):
        def do_GET(self):
            reached.append((self.server.server_port, self.path))
            self.send_response(307)
            self.send_header("Location", f"http://127.0.0.1:{other.server_port}/latest/meta-data")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_POST(self):
            self.do_GET()

        def log_message(self, *_):
            """Stay silent."""

    with (
        ThreadingHTTPServer(("127.0.0.1", 0), Redirecting) as one,
        ThreadingHTTPServer(("127.0.0.1", 0), Redirecting) as other,
    ):
        serving = [threading.Thread(target=server.serve_forever) for server in (one, other)]
        for thread in serving:
            thread.start()
        url = f"http://127.0.0.1:{one.server_port}"
        nexus = start_nexus("[discovery]\nenabled = false\n")
        added = ask(nexus.url, PATH, {"name": "bad", "url": url, "accepts_any_model": True})
        until(lambda: rows(nexus)["bad"]["last_health_check"])
        reply = ask(nexus.url, "/v1/chat/completions", chat())
        for server in (one, other):
            server.shutdown()
        for thread in serving:
            thread.join()

    assert added.status == 201
    assert reply.status != 200
    assert {port for port, _ in reached} == {one.server_port}


@pytest.mark.parametrize(("method", "body"), [("PATCH", {"tier": 2}), ("DELETE", None)])
def test_a_backend_of_the_file_is_changed_in_the_file(shared, method, body):
    status, message = error(ask(shared.url, f"{PATH}/gpu-1", body, method=method))
    unknown, _ = error(ask(shared.url, f"{PATH}/nope", body, method=method))

    assert (status, unknown) == (400, 404)
    assert "'gpu-1' is set in" in message
    assert "nexus.toml" in message


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'"\xff"', b"[" * 50_000, b'{"name": "\xff"}', b"null"])
def test_a_body_that_is_no_table_is_refused(shared, body):
    status, _ = error(ask(shared.url, PATH, body))

    assert status == 400


def test_a_client_of_many_may_not_add_a_backend(start_nexus):
    keys = '[server]\napi_keys = ["env:CLIENT_KEY"]\n'
    nexus = start_nexus(keys, environ={"CLIENT_KEY": "client-sesame"})

    status, message = error(
        ask(
            nexus.url,
            PATH,
            {"name": "gpu-9", "url": "http://10.0.0.9"},
            headers={"Authorization": "Bearer client-sesame"},
        )
    )

    assert status == 403
    assert "set server.admin_keys" in message


def test_a_reload_keeps_what_was_added_until_the_file_has_it(start_nexus, simulate):
    added, taken = simulate(name="added"), simulate(name="taken")
    nexus = start_nexus(STORE)
    assert add(nexus, added, persist=True).status == 201
    assert add(nexus, taken, persist=True).status == 201

    nexus.config_file.write_text(STORE + backend_table("mine", taken.url))
    nexus.send(signal.SIGHUP)
    (line,) = nexus.wait_for_log("added_backend_dropped")
    until(lambda: is_healthy(nexus, "added"))
    sources = {name: row["discovery_source"] for name, row in rows(nexus).items()}
    nexus.stop()
    again = start_nexus(STORE)

    assert (line["backend"], line["taken_by"]) == ("taken", "mine")
    assert sources == {"added": "api", "mine": "static"}
    assert rows(again).keys() == {"added"}


@pytest.mark.parametrize("persist", [True, False])
def test_what_the_file_adds_changes_and_removes_leaves_added_backends_as_they_are(start_nexus, simulate, persist):
    gpu, one, two = (simulate(name=name) for name in ("gpu-9", "one", "two"))
    nexus = start_nexus(STORE + table_of(one))
    assert add(nexus, gpu, persist=persist, priority=7).status == 201
    until(lambda: is_healthy(nexus, "gpu-9"))
    assert ask(nexus.url, f"{PATH}/gpu-9", {"tier": 4}, method="PATCH").status == 200
    before = rows(nexus)["gpu-9"]

    for number, backends in enumerate((table_of(one) + table_of(two), table_of(two, priority=3), ""), start=1):
        nexus.config_file.write_text(STORE + backends)
        nexus.send(signal.SIGHUP)
        nexus.wait_for_log("config_reloaded", number)
        row = rows(nexus)["gpu-9"]
        assert (row["joined_at"], row["status"], row["tier"], row["priority"]) == (before["joined_at"], "healthy", 4, 7)
    assert rows(nexus).keys() == {"gpu-9"}
    nexus.stop()
    again = start_nexus(STORE)

    assert {name: row["tier"] for name, row in rows(again).items()} == ({"gpu-9": 4} if persist else {})


def test_what_gave_way_to_the_file_at_a_start_does_not_come_back(start_nexus, simulate, command):
    gpu, other = simulate(name="gpu-9"), simulate(name="other")
    first = start_nexus(STORE)
    assert add(first, gpu, persist=True).status == 201
    first.stop()

    second = start_nexus(STORE + backend_table("gpu-9", other.url))
    (line,) = second.wait_for_log("added_backend_dropped")
    shown = command("config", "show", "--url", second.url)
    urls = {name: row["url"] for name, row in rows(second).items()}
    second.stop()
    third = start_nexus(STORE)

    assert (line["backend"], line["url"], line["taken_by"]) == ("gpu-9", gpu.url, "gpu-9")
    assert f"# not in force: gpu-9 at {gpu.url} was added (api); the file's gpu-9 has its name" in shown.stdout
    assert urls == {"gpu-9": other.url}
    assert rows(third) == {}


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A proxy of one backend, to which nothing is ever added."""
    config = backend_table("gpu-1", "http://127.0.0.1:9", type="vllm")
    with run_nexus(tmp_path_factory.mktemp("shared"), config) as nexus:
        yield nexus
