import msgspec
import pytest
from structlog.testing import capture_logs

from nexus.config.discovery_schema import DiscoveryConfig
from nexus.config.faults import Fault
from nexus.config.schema import BackendConfig
from nexus.config.secrets import Credentials, Secret
from nexus.domain.backend import Status
from nexus.domain.backend_load import BackendLoad
from nexus.fleet.kinds import VLLM
from nexus.fleet.plan import plan_fleet


def backend(name="gpu", **fields):
    return BackendConfig(name=name, url="http://gpu.test:8000", **fields)


def row(config, **options):
    (member,) = plan_fleet([config], **options).members.values()
    return member.row(BackendLoad(), Status.UNKNOWN)


def test_a_misspelt_kind_is_an_error():
    with pytest.raises(Fault) as fault:
        plan_fleet([backend(type="vlm")])

    assert fault.value.path == ("backends", 0, "type")
    assert fault.value.hint == "did you mean 'vllm'?"


def test_a_plugin_may_add_a_kind():
    kind = msgspec.structs.replace(VLLM, name="tgi")

    assert row(backend(type="tgi"), kinds=[kind]).kind is kind


def test_two_backends_with_one_name_are_an_error():
    with pytest.raises(Fault) as fault:
        plan_fleet([backend(), backend()])

    assert fault.value.path == ("backends", 1, "name")


def test_an_unusable_certificate_file_is_an_error(tmp_path):
    no_certificate = tmp_path / "ca.pem"
    no_certificate.write_text("nothing")

    for name in (str(no_certificate), str(tmp_path / "missing.pem")):
        with pytest.raises(Fault) as fault:
            plan_fleet([backend(tls_ca_file=name)])
        assert fault.value.path == ("backends", 0, "tls_ca_file")


@pytest.mark.parametrize(
    ("kind", "zone", "expected"),
    [
        ("vllm", None, "restricted"),
        ("openai", None, "open"),
        ("vllm", "OPEN", "open"),
        ("openai", "Restricted", "restricted"),
    ],
)
def test_a_zone_is_configured_or_usual_for_the_kind(kind, zone, expected):
    assert row(backend(type=kind, zone=zone)).zone == expected


def test_a_priority_that_is_configured_is_used():
    assert row(backend(priority=7)).priority == 7


def test_a_request_that_may_have_begun_is_not_sent_twice_to_a_paid_backend():
    assert row(backend(type="vllm")).retry_unsafe
    assert not row(backend(type="openai")).retry_unsafe
    assert row(backend(type="openai", retry_unsafe=True)).retry_unsafe


def test_the_operator_decides_which_protocols_are_spoken():
    assert row(backend(type="ollama", protocols=("ollama",))).endpoints == {
        "ollama.chat",
        "ollama.generate",
        "ollama.embed",
        "ollama.embeddings",
    }
    assert "anthropic.messages" in row(backend(type="generic", protocols=("openai", "anthropic"))).endpoints


def test_models_that_are_declared_are_there_from_the_start():
    assert row(msgspec.convert({"name": "g", "url": "http://g", "models": {"m": {}}}, BackendConfig)).models.keys() == {
        "m"
    }


@pytest.mark.parametrize(
    ("kind", "header", "value"), [("vllm", "authorization", "Bearer k"), ("anthropic", "x-api-key", "k")]
)
def test_a_key_goes_where_its_kind_expects_it(kind, header, value):
    (member,) = plan_fleet([backend(type=kind)], secrets={"gpu": Secret("k")}).members.values()

    assert member.target(member.kind).headers[header] == value


@pytest.mark.parametrize(
    ("key", "credentials", "at"),
    [
        ("k", Credentials(headers={"Authorization": Secret("x")}), "api_key"),
        ("k", Credentials(basic_auth=Secret("u:p")), "api_key"),
        (None, Credentials(basic_auth=Secret("u:p"), headers={"AUTHORIZATION": Secret("x")}), "headers"),
    ],
)
def test_two_keys_for_one_header_are_refused(key, credentials, at):
    secrets = {} if key is None else {"gpu": Secret(key)}

    with pytest.raises(Fault, match="too") as refused:
        plan_fleet([backend(type="vllm")], secrets=secrets, credentials={"gpu": credentials})

    assert refused.value.path == ("backends", 0, at)


@pytest.mark.parametrize(
    ("enabled", "names", "looks"), [(None, [], True), (None, ["a"], False), (True, ["a"], True), (False, [], False)]
)
def test_ports_are_scanned_if_nothing_is_configured_or_on_request(enabled, names, looks):
    plan = plan_fleet(map(backend, names), discovery=DiscoveryConfig(enabled=enabled))

    assert plan.looks_around() is looks


@pytest.mark.parametrize(("enabled", "looks"), [(None, False), (True, True)])
def test_a_discoverer_of_a_plugin_is_a_source_of_backends_too(enabled, looks):
    plan = plan_fleet([], discovery=DiscoveryConfig(enabled=enabled))

    assert plan.looks_around(has_finders=True) is looks


def warnings_of(url, **fields):
    with capture_logs() as logs:
        plan_fleet([BackendConfig(name="gpu", url=url, **fields)])
    return [(entry["event"], entry["backend"], entry["zone"]) for entry in logs]


@pytest.mark.parametrize("kind", ["auto", "generic", "vllm"])
def test_a_server_on_the_internet_that_counts_as_local_is_logged(kind):
    assert warnings_of("https://llm.example.com", type=kind) == [("zone_assumed", "gpu", "restricted")]


@pytest.mark.parametrize(
    ("url", "fields"),
    [
        ("https://llm.example.com", {"zone": "restricted"}),
        ("https://llm.example.com", {"zone": "open"}),
        ("https://llm.example.com", {"type": "openai"}),
        ("https://api.openai.com", {}),
        ("http://gpu-1:8000", {}),
    ],
)
def test_nothing_is_logged_if_nothing_is_assumed(url, fields):
    assert warnings_of(url, **fields) == []
