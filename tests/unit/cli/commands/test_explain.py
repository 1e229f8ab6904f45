"""``nexus-proxy explain`` asks a running proxy, or probes the backends itself."""

import http.server
import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from nexus.simulator import Settings, Simulator, in_thread
from nexus.testing.ports import free_port


@pytest.fixture
def servers():
    one = Simulator(Settings(name="gpu-1", kind="vllm", models=("llama3",)))
    two = Simulator(Settings(name="gpu-2", kind="ollama", models=("llama3", "qwen3")))
    with in_thread(one, two) as started:
        yield started


@pytest.fixture
def config(run, servers):
    rows = "".join(f'[[backends]]\nname = "{s.name}"\nurl = "{s.url}"\ntype = "{s.settings.kind}"\n' for s in servers)
    Path("nexus.toml").write_text(f"[server]\nport = {free_port()}\n{rows}")


@pytest.fixture
def listener():
    """Start something that answers as requested, and remembers what it was sent."""
    servers = []

    def start(answer: Callable[[str], tuple[int, dict[str, str], bytes]]):
        requests = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                length = int(self.headers.get("Content-Length", 0))
                requests.append((self.path, dict(self.headers), self.rfile.read(length)))
                status, headers, body = answer(self.path)
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET  # noqa: N815 - http.server's

            def log_message(self, *_):
                """Say nothing."""

        server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}", requests

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


NIGHT = str(Path(__file__).parents[1] / "night.py")
NEXUS = {"X-Nexus-Version": "9.9"}


class TestFromHere:
    def test_it_shows_the_chosen_backend_and_the_reason(self, run, config):
        result = run("explain", "--model", "qwen3")

        assert result.exit_code == 0, result.stderr
        assert result.stdout.startswith(
            "this command looked at the fleet itself: no proxy answers at http://127.0.0.1:"
        )
        assert "candidates: gpu-2" in result.stdout
        assert "1. gpu-2 as qwen3" in result.stdout
        assert "why not gpu-1" in result.stdout

    def test_it_shows_the_decisions_of_a_plugin(self, run, config):
        result = run("explain", "--model", "llama3", "--plugin", NIGHT)

        assert "excludes gpu-1: cloud backends rest at night" in result.stdout
        assert "reject: 503 rejected_by_policy" in result.stdout

    def test_it_derives_the_requirements_of_the_request(self, run, config):
        result = run("explain", "-m", "llama3", "--prompt-tokens", "1000000", "--tools", "--json")

        explained = json.loads(result.stdout)
        assert (explained["source"], explained["request"]["model"]) == ("probes", "llama3")
        assert (explained["request"]["prompt_tokens"], explained["request"]["needs"]) == (1_000_000, ["tools"])
        analyzed = explained["rounds"][0]["models"][0]["stages"][0]
        assert {remark["factor"] for remark in analyzed["weighed"]} == {0.1}
        assert "may exceed the context" in analyzed["weighed"][0]["reason"]
        assert "this command looked at the fleet itself" in result.stderr

    def test_an_unknown_model_is_no_failure(self, run, config):
        result = run("explain", "--model", "gone")

        assert result.exit_code == 0
        assert "candidates: none" in result.stdout
        assert "reject: 404 model_not_found" in result.stdout

    @pytest.mark.parametrize("named", ["/api/chat", "/v1/messages", "/v1/embeddings", "/v1/audio/transcriptions"])
    def test_every_endpoint_can_be_explained(self, run, config, named):
        result = run("explain", "--model", "llama3", "--endpoint", named, "--offline")

        assert result.exit_code == 0, result.stderr
        assert f"(POST {named})" in result.stdout
        assert "as --offline says" in result.stdout

    def test_a_body_sets_the_requirements(self, run, config):
        Path("body.json").write_text('{"model": "phi", "messages": [], "tools": [{"a": 1}], "max_tokens": 9}')

        plain = run("explain", "--file", "body.json", "--json")
        other = run("explain", "--file", "body.json", "--model", "qwen3", "--json")

        assert json.loads(plain.stdout)["request"]["model"] == "phi"
        assert json.loads(other.stdout)["request"]["model"] == "qwen3"
        assert json.loads(other.stdout)["request"]["max_tokens"] == 9
        assert json.loads(other.stdout)["request"]["needs"] == ["tools"]

    def test_a_body_may_be_a_form(self, run, config):
        Path("form").write_bytes(b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper\r\n--x--\r\n')

        result = run("explain", "--file", "form", "--endpoint", "/v1/audio/transcriptions")

        assert "model whisper at openai.transcriptions" in result.stdout

    def test_stages_get_the_hints(self, run, config):
        result = run("explain", "-m", "llama3", "--header", "X-Nexus-Privacy: restricted", "--offline")

        assert "hint: x-nexus-privacy: restricted" in result.stdout

    def test_a_wrong_body_is_refused_as_the_request_would_be(self, run, config):
        Path("body.json").write_text("{")

        result = run("explain", "--file", "body.json")

        assert result.exit_code == 1
        assert "such a request is refused: 400 invalid_json" in result.stderr

    @pytest.mark.parametrize(
        ("words", "text"),
        [
            ((), "Missing option '-m'"),
            (("--file", "b", "--tools"), "only --model may be given too"),
            (("-m", "x", "--header", "Cookie: a"), "is no hint"),
            (("-m", "x", "--header", "X-Nexus-Strict"), "is no hint"),
            (("-m", "x", "--offline", "--url", "http://x"), "--offline does not ask a proxy"),
            (("-m", "x", "--url", "ftp://x"), "expected it to begin with http"),
            (("-m", "x", "--api-key", "sesame"), "the secret: write env:NAME or file:PATH"),
            (("-m", "x", "--api-key", "env:NEXUS_TEST_GONE"), "the variable NEXUS_TEST_GONE is not set\n"),
        ],
    )
    def test_invalid_options_are_a_usage_error(self, run, config, words, text):
        Path("b").write_text("{}")

        result = run("explain", *words)

        assert result.exit_code == 2
        assert text in result.stderr
        assert "sesame" not in result.stderr.replace("--api-key sesame", "")


class TestWhomItAsks:
    def test_the_key_is_not_sent_to_another_program(self, run, config, listener):
        url, requests = listener(lambda _: (200, {}, b"hello"))

        result = run("explain", "-m", "x", "--url", url, "--api-key", "env:KEY", env={"KEY": "sesame"})

        assert result.exit_code == 69
        assert f"what listens at {url} is not Nexus" in result.stderr
        assert [path for path, *_ in requests] == ["/health"]
        assert "sesame" not in str(requests)

    def test_the_key_is_sent_to_a_nexus(self, run, config, listener):
        url, requests = listener(lambda path: (200 if path == "/health" else 500, NEXUS, b"{}"))

        run("explain", "-m", "x", "--url", f"{url}/v1", "--api-key", "env:KEY", env={"KEY": "sesame"})

        (path, headers, body) = requests[1]
        assert path == "/v1/route/explain?endpoint=/v1/chat/completions"
        assert headers["Authorization"] == "Bearer sesame"
        assert json.loads(body)["model"] == "x"

    @pytest.mark.parametrize(
        ("status", "body", "text"),
        [
            (401, b'{"error": {"code": "invalid_api_key", "message": "no"}}', "asks for a key: --api-key env:NAME"),
            (404, b'{"error": {"code": "not_found", "message": "no"}}', "is Nexus 9.9, which cannot explain"),
            (400, b'{"error": "not so", "code": "invalid_json"}', "refuses such a request: 400 invalid_json: not so"),
            (400, b'{"error": {"code": "too_large", "message": "b"}}', "refuses such a request: 400 too_large: b"),
            (502, b"<html>", "refuses such a request: 502 unknown: <html>"),
            (502, b"[]", "refuses such a request: 502 unknown: []"),
            (200, b'{"id": 1}', "whose answer this one cannot read"),
        ],
    )
    def test_an_error_of_the_proxy_is_quoted(self, run, config, listener, status, body, text):
        url, _ = listener(lambda path: (200 if path == "/health" else status, NEXUS, body))

        result = run("explain", "-m", "x", "--url", url)

        assert result.exit_code == (77 if status == 401 else 1)
        assert text in result.stderr

    def test_a_url_without_a_proxy_is_an_error(self, run, config):
        result = run("explain", "-m", "x", "--url", f"http://127.0.0.1:{free_port()}")

        assert result.exit_code == 69
        assert "no proxy answers at" in result.stderr

    @pytest.mark.parametrize(("host", "found"), [("0.0.0.0", "127.0.0.1"), ("127.0.0.1", "127.0.0.1")])
    def test_the_configured_proxy_is_asked_before_backends_are_probed(self, run, config, listener, host, found):
        url, requests = listener(lambda _: (200, {}, b"hello"))
        port = url.rpartition(":")[2]

        result = run("explain", "-m", "llama3", "--host", host, "--port", port, "--insecure")

        assert result.exit_code == 0, result.stderr
        assert (
            f"this command looked at the fleet itself: what listens at http://{found}:{port} is not Nexus"
            in result.stdout
        )
        assert len(requests) == 1

    @pytest.mark.parametrize("words", [("--plugin", NIGHT), ("--set", "routing.strategy=random")])
    def test_a_proxy_with_other_stages_is_not_asked(self, run, config, listener, words):
        url, requests = listener(lambda _: (200, NEXUS, b"{}"))

        result = run("explain", "-m", "llama3", "--port", url.rpartition(":")[2], *words)

        assert result.stdout.startswith(
            "this command looked at the fleet itself: a running proxy does not have the options"
        )
        assert requests == []
