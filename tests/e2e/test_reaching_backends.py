"""A backend behind a gateway is reached with its path, headers, query and credentials, by traffic and by probes."""

import http.client
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from nexus.testing.client import ask, chat
from nexus.testing.waiting import until

STILL = "[health_check]\ninterval_seconds = 3600\n"
SECRETS = {"AZURE_KEY": "azure-sesame", "LOGIN": "me:login-sesame", "TOKEN": "query-sesame"}


class Gateway(ThreadingHTTPServer):
    """Passes what comes below *prefix* on to the ``/v1`` of a simulator, and remembers each request."""

    daemon_threads = True

    def __init__(self, simulator, prefix):
        super().__init__(("127.0.0.1", 0), Passing)
        self.simulator = simulator
        self.prefix = prefix
        self.seen = []

    @property
    def host(self):
        return f"127.0.0.1:{self.server_port}"


class Passing(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.pass_on(None)

    def do_POST(self):
        self.pass_on(self.rfile.read(int(self.headers["Content-Length"])))

    def pass_on(self, body):
        self.server.seen.append((self.path, self.headers))
        path = self.path.partition("?")[0]
        status, answer = 404, b"{}"
        if path.startswith(f"{self.server.prefix}/"):
            connection = http.client.HTTPConnection(self.server.simulator.url.removeprefix("http://"))
            target = "/v1" + path.removeprefix(self.server.prefix)
            connection.request(self.command, target, body, {"Content-Type": "application/json"})
            reply = connection.getresponse()
            status, answer = reply.status, reply.read()
            connection.close()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *args):
        pass


@contextmanager
def gateway_to(simulator, prefix):
    gateway = Gateway(simulator, prefix)
    thread = threading.Thread(target=gateway.serve_forever)
    thread.start()
    try:
        yield gateway
    finally:
        gateway.shutdown()
        gateway.server_close()
        thread.join()


def models_of(nexus):
    return [row["id"] for row in nexus.get_json("/v1/models")["data"]]


@pytest.mark.parametrize(
    ("base", "prefix", "more"),
    [
        ("", "/v1", ""),
        ("/v1", "/v1", ""),
        ("/api/v1/", "/api/v1", ""),
        ("/v1beta/openai", "/v1beta/openai", ""),
        ("/api/paas/v4", "/api/paas/v4", ""),
        ("/client/v4/accounts/a/ai/v1", "/client/v4/accounts/a/ai/v1", ""),
        ("/openai/deployments/gpt", "/openai/deployments/gpt", "path_is_complete = true"),
    ],
)
def test_a_backend_is_found_at_any_base_path(simulate, start_nexus, base, prefix, more):
    simulator = simulate(kind="generic", models=("llama3",))
    with gateway_to(simulator, prefix) as gateway:
        config = f'{STILL}[[backends]]\nname = "cloud"\ntype = "openai"\nurl = "http://{gateway.host}{base}"\n{more}\n'
        nexus = start_nexus(config)

        reply = ask(nexus.url, "/v1/chat/completions", chat("llama3"))

    assert (reply.status, models_of(nexus)) == (200, ["llama3"])
    assert {path for path, _ in gateway.seen} == {f"{prefix}/models", f"{prefix}/chat/completions"}


@pytest.mark.parametrize("base", ["/v1beta/openai", "/llm"])
def test_the_kind_of_a_backend_is_found_out_below_its_base_path(simulate, start_nexus, base):
    simulator = simulate(kind="generic", models=("llama3",))
    prefix = base if base.startswith("/v1beta") else f"{base}/v1"
    with gateway_to(simulator, prefix) as gateway:
        nexus = start_nexus(f'{STILL}[[backends]]\nname = "cloud"\nurl = "http://{gateway.host}{base}"\n')

        until(lambda: models_of(nexus) == ["llama3"])

    assert all(path.startswith(f"{base}/") for path, _ in gateway.seen)


AZURE = """
[[backends]]
name = "azure"
type = "openai"
url = "http://{host}/openai/v1"
headers = {{ "api-key" = "env:AZURE_KEY", "X-Org" = "house" }}
query = {{ "api-version" = "2024-10-21", "token" = "env:TOKEN" }}
"""


def test_configured_headers_and_query_go_with_every_request(simulate, start_nexus):
    simulator = simulate(kind="generic", models=("llama3",))
    with gateway_to(simulator, "/openai/v1") as gateway:
        nexus = start_nexus(STILL + AZURE.format(host=gateway.host), environ=SECRETS)

        reply = ask(
            nexus.url,
            "/v1/chat/completions?api-version=1",
            chat("llama3"),
            headers={"Authorization": "Bearer client", "api-key": "client", "X-Org": "client's"},
        )

    assert reply.status == 200
    assert len(gateway.seen) >= 2
    for path, headers in gateway.seen:
        assert path.endswith("?api-version=2024-10-21&token=query-sesame")
        assert (headers.get_all("api-key"), headers.get_all("x-org")) == (["azure-sesame"], ["house"])
        assert headers["authorization"] is None


@pytest.mark.parametrize("is_in_url", [True, False])
def test_a_login_is_sent_as_basic_auth_and_shown_nowhere(simulate, start_nexus, is_in_url):
    simulator = simulate(kind="generic", models=("llama3",))
    with gateway_to(simulator, "/v1") as gateway:
        login, more = ("me:login-sesame@", "") if is_in_url else ("", 'basic_auth = "env:LOGIN"')
        table = f'[[backends]]\nname = "gate"\ntype = "openai"\nurl = "http://{login}{gateway.host}"\n{more}\n'
        nexus = start_nexus(STILL + table, environ=SECRETS)

        reply = ask(nexus.url, "/v1/chat/completions", chat("llama3"), headers={"Authorization": "Bearer client"})
        pages = [ask(nexus.url, path).body for path in ("/admin/backends", "/admin/stats", "/health", "/", "/metrics")]

    assert reply.status == 200
    assert {headers["authorization"] for _, headers in gateway.seen} == {"Basic bWU6bG9naW4tc2VzYW1l"}
    for told in (*pages, nexus.log_text().encode()):
        assert b"sesame" not in told
        assert b"bWU6bG9naW4tc2VzYW1l" not in told


def test_secrets_that_a_backend_repeats_stay_here(simulate, start_nexus):
    simulator = simulate(kind="generic", models=("llama3",))
    with gateway_to(simulator, "/openai/v1") as gateway:
        nexus = start_nexus(STILL + AZURE.format(host=gateway.host), environ=SECRETS)
        until(lambda: models_of(nexus))
        gateway.prefix = "/gone"
        # The answer to this is a 404 of the gateway, which repeats what it got.
        Passing.do_POST = repeat
        try:
            reply = ask(nexus.url, "/v1/chat/completions", chat("llama3"))
        finally:
            Passing.do_POST = do_post

    assert reply.status == 400
    assert b"***" in reply.body
    assert b"sesame" not in reply.body
    assert "sesame" not in nexus.log_text()


do_post = Passing.do_POST


def repeat(self):
    self.rfile.read(int(self.headers["Content-Length"]))
    answer = json.dumps({"error": {"message": f"bad key {self.headers['api-key']} at {self.path}"}}).encode()
    self.send_response(400)
    self.send_header("Content-Type", "application/json")
    self.send_header("Content-Length", str(len(answer)))
    self.end_headers()
    self.wfile.write(answer)
