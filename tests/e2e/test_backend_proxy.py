"""A backend behind an HTTP proxy is reached through it, by traffic and by probes, with TLS and without."""

import socket
import ssl
import threading
from contextlib import ExitStack, suppress

import pytest
import trustme

from nexus.simulator import Settings, Simulator, in_thread
from nexus.testing.client import ask, chat
from nexus.testing.waiting import until

CONFIG = """
[health_check]
interval_seconds = 3600
timeout_seconds = 2
[[backends]]
name = "gpu-1"
type = "vllm"
url = "{url}"
{more}
"""
LOGIN = "Basic bWU6cHJveHktc2VzYW1l"


class ConnectProxy:
    """Opens tunnels to *place*, whatever host is asked for, and remembers what it was asked."""

    def __init__(self, place, *, wants=None):
        self.place = place
        self.wants = wants
        self.asked = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]

    def serve(self):
        with suppress(OSError):
            while True:
                end, _ = self.listener.accept()
                threading.Thread(target=self.serve_one, args=(end,), daemon=True).start()

    def serve_one(self, end):
        with end, suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                head += end.recv(1000)
            self.asked.append(head.decode())
            if self.wants is not None and f"Proxy-Authorization: {self.wants}\r\n" not in head.decode():
                end.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
                return
            with socket.create_connection(self.place) as backend:
                end.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                back = threading.Thread(target=pump, args=(backend, end), daemon=True)
                back.start()
                pump(end, backend)
                back.join()

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


def pump(source, sink):
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def scene(authority, tmp_path):
    """Start a simulator, with TLS or without, and a proxy that leads to it; the name of the backend exists nowhere."""
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    with ExitStack() as running:

        def make(scheme, **options):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            authority.issue_cert("gpu-1.invalid").configure_cert(context)
            tls = context if scheme == "https" else None
            simulator = Simulator(Settings(name="gpu-1", kind="vllm", models=("llama3",), tls=tls))
            running.enter_context(in_thread(simulator))
            proxy = ConnectProxy(("127.0.0.1", simulator.port), **options)
            threading.Thread(target=proxy.serve, daemon=True).start()
            running.callback(proxy.close)
            return proxy, f"{scheme}://gpu-1.invalid:8443", f'tls_ca_file = "{tmp_path / "ca.pem"}"\n'

        yield make


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_backend_is_reached_through_its_proxy(scene, start_nexus, scheme):
    proxy, url, more = scene(scheme, wants=LOGIN)
    more += f'https_proxy = "http://me:proxy-sesame@127.0.0.1:{proxy.port}"'
    nexus = start_nexus(CONFIG.format(url=url, more=more))
    until(lambda: nexus.get_json("/v1/models")["data"])
    before = len(proxy.asked)

    reply = ask(nexus.url, "/v1/chat/completions", chat("llama3"))
    pages = [ask(nexus.url, path).body for path in ("/admin/backends", "/admin/stats", "/", "/metrics")]

    assert (reply.status, before > 0, len(proxy.asked) > before) == (200, True, True)
    assert {head.partition("\r\n")[0] for head in proxy.asked} == {"CONNECT gpu-1.invalid:8443 HTTP/1.1"}
    for told in (*pages, nexus.log_text().encode()):
        assert b"sesame" not in told


@pytest.mark.parametrize(("no_proxy", "is_used"), [("", True), ("other.invalid", True), (".invalid", False)])
def test_the_environment_names_the_proxy_when_asked(scene, start_nexus, no_proxy, is_used):
    proxy, url, more = scene("https")
    environ = {"https_proxy": f"http://127.0.0.1:{proxy.port}", "no_proxy": no_proxy}
    nexus = start_nexus(CONFIG.format(url=url, more=more + 'https_proxy = "environment"'), environ=environ)

    models = nexus.get_json("/v1/models")["data"]

    assert (bool(models), bool(proxy.asked)) == (is_used, is_used)


def test_the_environment_is_not_asked_unasked(scene, start_nexus):
    proxy, url, more = scene("https")
    environ = {"https_proxy": f"http://127.0.0.1:{proxy.port}"}
    nexus = start_nexus(CONFIG.format(url=url, more=more), environ=environ)

    assert (nexus.get_json("/v1/models")["data"], proxy.asked) == ([], [])


def test_a_proxy_that_wants_other_credentials_is_named_as_the_cause(scene, start_nexus):
    proxy, url, more = scene("http", wants=LOGIN)
    more += 'https_proxy = "env:PROXY"\n[backends.models.llama3]'
    nexus = start_nexus(CONFIG.format(url=url, more=more), environ={"PROXY": f"http://me:wrong@127.0.0.1:{proxy.port}"})
    (backend,) = nexus.get_json("/admin/backends")["backends"]

    assert "the https_proxy requires other credentials (407)" in backend["last_error"]


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("socks5://proxy:1080", "bad URL: expected it to begin with http://"),
        ("https://proxy:3128", "as proxies are reached without TLS"),
        ("http://me@proxy", "bad URL: expected user:password before the @"),
        ("env:GONE", "the variable GONE is not set"),
        ("environment", "the variable HTTPS_PROXY holds a bad URL"),
    ],
)
def test_a_proxy_that_cannot_be_one_is_told_by_check(command, tmp_path, value, problem):
    config = tmp_path / "nexus.toml"
    config.write_text(CONFIG.format(url="https://gpu-1", more=f'https_proxy = "{value}"'))

    done = command("check", "--config", str(config), HTTPS_PROXY="ftp://sesame", https_proxy="")

    assert done.returncode == 78
    assert problem in done.stderr
    assert "at `https_proxy`" in done.stderr
    assert "sesame" not in done.stderr
