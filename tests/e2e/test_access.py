"""Who may come in."""

import hashlib
import http.client
import socket

import anthropic
import ollama
import openai
import pytest

from nexus.simulator import Settings, Simulator, in_thread
from nexus.testing.client import ask, chat
from nexus.testing.fleets import table_of
from nexus.testing.ports import free_port
from tests.support.process import run_nexus

KEY = "nx-open-sesame"
HASHED = "nx-hashed-sesame"

PATHS = [
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/audio/transcriptions"),
    ("POST", "/v1/messages"),
    ("POST", "/api/chat"),
    ("POST", "/api/show"),
    ("POST", "/v1/route/explain"),
    ("GET", "/v1/route/decisions"),
    ("GET", "/v1/route/decisions/x"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/llama3"),
    ("GET", "/api/tags"),
    ("GET", "/api/ps"),
    ("GET", "/api/version"),
    ("GET", "/"),
    ("HEAD", "/"),
    ("GET", "/health"),
    ("GET", "/ready"),
    ("GET", "/metrics"),
    ("GET", "/admin/backends"),
    ("GET", "/assets/style.css"),
    ("GET", "/nothing"),
    ("DELETE", "/v1/models/llama3"),
]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    digest = hashlib.sha256(HASHED.encode()).hexdigest()
    config = f'[server]\napi_keys = ["env:CLIENT_KEY", "sha256:{digest}"]\n'
    gpu = Simulator(Settings(name="gpu-1", kind="vllm"))
    laptop = Simulator(Settings(name="laptop", kind="ollama", models=("gemma",)))
    with (
        in_thread(gpu, laptop),
        run_nexus(
            tmp_path_factory.mktemp("guarded"),
            config + table_of(gpu) + table_of(laptop),
            environ={"CLIENT_KEY": KEY},
        ) as nexus,
    ):
        yield nexus, gpu


@pytest.mark.parametrize(("method", "path"), PATHS)
@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"x-api-key": KEY + "x"}])
def test_nothing_is_open_without_a_key(guarded, method, path, headers):
    nexus, _ = guarded

    reply = ask(nexus.url, path, method=method, headers=headers)

    assert reply.status == 401
    assert reply.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize(("method", "path"), PATHS)
@pytest.mark.parametrize("headers", [{"Authorization": f"Bearer {KEY}"}, {"x-api-key": HASHED}])
def test_everything_is_open_with_one(guarded, method, path, headers):
    nexus, _ = guarded

    assert ask(nexus.url, path, method=method, headers=headers).status != 401


def test_each_library_brings_its_key_in_its_own_way(guarded):
    nexus, gpu = guarded
    messages = [{"role": "user", "content": "hi"}]

    with openai.OpenAI(base_url=f"{nexus.url}/v1", api_key=KEY) as client:
        said = client.chat.completions.create(model="llama3", messages=messages).choices[0].message.content
    with anthropic.Anthropic(base_url=nexus.url, api_key=KEY) as client:
        told = client.messages.create(model="llama3", max_tokens=9, messages=messages).content[0].text
    client = ollama.Client(nexus.url, headers={"Authorization": f"Bearer {HASHED}"})
    wrote = client.generate("gemma", "hi").response
    client.close()

    assert all("you said hi" in text for text in (said, told, wrote))
    for record in gpu.requests:
        assert "sesame" not in str(record.request.raw_headers)


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
def test_a_wrong_key_is_the_library_s_own_error(guarded, kind):
    nexus, _ = guarded
    messages = [{"role": "user", "content": "hi"}]

    if kind == "openai":
        with (
            openai.OpenAI(base_url=f"{nexus.url}/v1", api_key="wrong") as client,
            pytest.raises(openai.AuthenticationError) as raised,
        ):
            client.chat.completions.create(model="llama3", messages=messages)
        assert raised.value.code == "invalid_api_key"
    else:
        with (
            anthropic.Anthropic(base_url=nexus.url, api_key="wrong") as client,
            pytest.raises(anthropic.AuthenticationError) as raised,
        ):
            client.messages.create(model="llama3", max_tokens=9, messages=messages)
        assert raised.value.body["error"]["type"] == "authentication_error"


def test_the_log_never_shows_a_key(guarded):
    nexus, _ = guarded
    ask(nexus.url, "/v1/chat/completions", chat(), headers={"Authorization": f"Bearer {KEY}"})
    ask(nexus.url, f"/nothing?key={KEY}", headers={"Authorization": "Bearer wrong-sesame"})

    nexus.wait_for_log("exchange_finished")

    assert "sesame" not in nexus.log_text()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_another_address_than_loopback_needs_a_key(command, host):
    ended = command("--host", host, "--port", str(free_port()))

    assert ended.returncode == 78
    assert "api_keys" in ended.stderr
    assert "--insecure" in ended.stderr


def test_insecure_lets_everybody_in_who_is_told_so(start_nexus, simulate):
    config = "[server]\nlame_duck_seconds = 0\n" + table_of(simulate())
    nexus = start_nexus(config, arguments=("--host", "0.0.0.0", "--insecure"))

    assert ask(nexus.url, "/v1/chat/completions", chat()).status == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:{port}", 200),
        ("localhost:{port}", 200),
        ("LOCALHOST", 200),
        ("[::1]:{port}", 200),
        ("gpu.example", 200),
        ("192.168.1.5:{port}", 200),
        ("[fd00::5]:{port}", 200),
        ("0.0.0.0:{port}", 421),
        ("evil.example:{port}", 421),
        ("127.0.0.1.evil.example", 421),
        ("", 400),
        ("two words", 400),
        ("localhost:99999", 400),
    ],
)
@pytest.mark.parametrize("path", ["/v1/models", "/", "/admin/backends"])
def test_a_rebound_name_does_not_get_in(rebindable, host, status, path):
    reply = ask(rebindable.url, path, headers={"Host": host.format(port=rebindable.port)})

    assert reply.status == status


@pytest.fixture(scope="module")
def rebindable(tmp_path_factory):
    with run_nexus(
        tmp_path_factory.mktemp("hosts"),
        '[server]\nallowed_hosts = ["gpu.example"]\nallowed_origins = ["http://chat.example"]\n'
        "[discovery]\nenabled = false\n",
    ) as nexus:
        yield nexus


@pytest.fixture(scope="module")
def on_all_addresses(tmp_path_factory):
    with run_nexus(
        tmp_path_factory.mktemp("open"),
        '[server]\nhost = "0.0.0.0"\n[discovery]\nenabled = false\n',
        arguments=("--insecure",),
    ) as nexus:
        yield nexus


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("192.168.1.5:{port}", 200),
        ("[fd00::5]:{port}", 200),
        ("0.0.0.0:{port}", 200),
        ("{name}:{port}", 200),
        ("{name}.local:{port}", 200),
        ("localhost", 200),
        ("evil.example:{port}", 421),
        ("{name}.evil.example", 421),
        ("192.168.1.5.evil.example", 421),
    ],
)
def test_a_proxy_on_all_addresses_is_reached_by_any_address_and_its_own_names(on_all_addresses, host, status):
    name = socket.gethostname().partition(".")[0]

    reply = ask(
        on_all_addresses.url, "/v1/models", headers={"Host": host.format(port=on_all_addresses.port, name=name)}
    )

    assert reply.status == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Origin": "http://chat.example"}, 200),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
    ],
)
def test_a_page_of_another_origin_does_not_get_in(rebindable, headers, status):
    assert ask(rebindable.url, "/v1/models", headers=headers).status == status


TO_CHAT = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"


@pytest.mark.parametrize(
    "head",
    [
        TO_CHAT + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n",
        TO_CHAT + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        TO_CHAT + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nHost: evil\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nX : y\r\n\r\n",
        b"GET http://evil.example/v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    ],
)
def test_what_two_servers_could_read_in_two_ways_ends_the_connection(rebindable, head):
    with socket.create_connection(("127.0.0.1", rebindable.port), timeout=5) as client:
        client.sendall(head)
        answer = http.client.HTTPResponse(client)
        answer.begin()
        status, body = answer.status, answer.read()
        rest = client.recv(1)

    assert status in {400, 501}
    assert b"evil" not in body
    assert rest == b""
