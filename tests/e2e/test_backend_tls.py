"""A backend that asks for a certificate is shown one, by traffic and by probes; what is wrong with it is told."""

import ssl

import pytest
import trustme

from nexus.simulator import Settings, Simulator, in_thread
from nexus.testing.client import ask, chat
from nexus.testing.waiting import until

CONFIG = """
[health_check]
interval_seconds = 3600
[[backends]]
name = "gpu-1"
url = "{url}"
{more}
"""


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def demanding(authority):
    """A simulator that wants to see a certificate of *authority*."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    simulator = Simulator(Settings(name="gpu-1", kind="vllm", models=("llama3",), tls=context))
    with in_thread(simulator):
        yield simulator


@pytest.fixture
def files(authority, tmp_path):
    client = authority.issue_cert("nexus@house.example")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    client.private_key_pem.write_to_path(tmp_path / "client.key")
    client.cert_chain_pems[0].write_to_path(tmp_path / "client.pem")
    client.private_key_and_cert_chain_pem.write_to_path(tmp_path / "both.pem")
    return tmp_path


def told(files, cert, key=None, ca="ca.pem"):
    lines = [f'tls_ca_file = "{files / ca}"'] if ca else ["tls_verify = false"]
    lines += [f'tls_cert_file = "{files / cert}"'] if cert else []
    lines += [f'tls_key_file = "{files / key}"'] if key else []
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("cert", "key", "ca"),
    [("client.pem", "client.key", "ca.pem"), ("both.pem", None, "ca.pem"), ("client.pem", "client.key", None)],
)
def test_a_certificate_is_shown_to_a_backend_that_wants_one(demanding, start_nexus, files, cert, key, ca):
    nexus = start_nexus(CONFIG.format(url=demanding.url, more=told(files, cert, key, ca)))
    until(lambda: nexus.get_json("/v1/models")["data"])

    reply = ask(nexus.url, "/v1/chat/completions", chat("llama3"))

    assert reply.status == 200


def test_without_one_such_a_backend_is_not_reached(demanding, start_nexus, files):
    nexus = start_nexus(CONFIG.format(url=demanding.url, more=told(files, None)))

    assert nexus.get_json("/v1/models")["data"] == []


@pytest.mark.parametrize(
    ("cert", "key", "problem"),
    [
        ("gone.pem", None, "no such file: {}/gone.pem - at `tls_cert_file`"),
        ("ca.pem", None, "no certificate with its key in PEM"),
        ("client.pem", "ca.pem", "no certificate with its key in PEM"),
        ("client.pem", None, "set tls_key_file if the key is in another file"),
    ],
)
def test_a_certificate_that_cannot_be_used_is_told_by_check(files, command, cert, key, problem):
    config = files / "nexus.toml"
    config.write_text(CONFIG.format(url="https://gpu-1", more=told(files, cert, key)))

    done = command("check", "--config", str(config))

    assert done.returncode == 78
    assert problem.format(files) in done.stderr
