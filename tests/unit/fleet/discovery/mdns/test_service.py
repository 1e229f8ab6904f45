"""What an mDNS service announces, validated."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus.config.rules.urls import normalised
from nexus.fleet.discovery.discoverer import Discovered
from nexus.fleet.discovery.mdns.service import full_types, parse_service

TYPE = "_llm._tcp.local."


def info(label="desk", addresses=("192.168.1.5",), port=11434, server="desk.local.", type_=TYPE, **hints):
    return SimpleNamespace(
        type=type_,
        name=f"{label}.{type_}",
        server=server,
        port=port,
        decoded_properties=hints,
        parsed_scoped_addresses=lambda: list(addresses),
    )


def test_the_label_is_the_name():
    found = parse_service(info()).discovered()

    assert found == Discovered("desk", "http://192.168.1.5:11434", "auto", "desk.local")


@pytest.mark.parametrize(
    ("type_", "hints", "kind"),
    [
        (TYPE, {"type": "vllm"}, "vllm"),
        (TYPE, {"api": "Ollama"}, "ollama"),
        (TYPE, {"TYPE": "vllm"}, "vllm"),
        (TYPE, {"type": None}, "auto"),
        (TYPE, {"type": "made-up"}, "auto"),
        ("_ollama._tcp.local.", {}, "ollama"),
    ],
)
def test_the_kind_is_a_hint(type_, hints, kind):
    assert parse_service(info(type_=type_, **hints)).kind == kind


def test_a_base_path_and_tls_are_taken():
    assert parse_service(info(path="/llm/", tls="1")).discovered().url == "https://192.168.1.5:11434/llm"


@pytest.mark.parametrize("path", ["llm", "/a b", "/a?b", "/a#b", "/../x", "/" + "a" * 300, "/ä", "http://x"])
def test_an_invalid_path_is_ignored(path):
    assert parse_service(info(path=path)).path == ""


def test_private_addresses_come_first_and_link_local_ones_last():
    addresses = ("fe80::1%eth0", "2001:4860:4860::8888", "192.168.1.5")

    assert parse_service(info(addresses=addresses)).addresses == ("192.168.1.5", "2001:4860:4860::8888", "fe80::1%eth0")


def test_a_link_local_address_keeps_its_interface():
    url = parse_service(info(addresses=("fe80::1%eth0",))).discovered().url

    assert url == "http://[fe80::1%25eth0]:11434"


@pytest.mark.parametrize("addresses", [(), ("127.0.0.1",), ("::1", "169.254.169.254"), ("0.0.0.0",)])
def test_a_service_without_an_address_of_another_machine_is_ignored(addresses):
    assert parse_service(info(addresses=addresses)) is None


@pytest.mark.parametrize("port", [None, 0])
def test_a_service_without_a_port_is_ignored(port):
    assert parse_service(info(port=port)) is None


def test_the_address_that_answered_stays_first():
    two = parse_service(info(addresses=("192.168.1.5", "192.168.1.6"))).preferring("192.168.1.6")

    assert (two.address, two.addresses) == ("192.168.1.6", ("192.168.1.6", "192.168.1.5"))


def test_service_types_are_completed():
    given_types = ["_ollama._tcp", "_llm._tcp.", "_a._udp.local", "_b._tcp.local.", "_ollama._tcp."]

    assert full_types(given_types) == ("_ollama._tcp.local.", "_llm._tcp.local.", "_a._udp.local.", "_b._tcp.local.")


def test_kept_addresses_come_first():
    kept = parse_service(info(addresses=("192.168.1.5", "192.168.1.6"))).keeping(("192.168.1.9", "192.168.1.6"))

    assert kept.addresses == ("192.168.1.9", "192.168.1.6", "192.168.1.5")


@given(
    label=st.text(max_size=80),
    addresses=st.lists(st.ip_addresses().map(str), max_size=20),
    port=st.integers(-1, 70000),
    server=st.none() | st.text(max_size=80),
    hints=st.dictionaries(st.sampled_from(["type", "path", "tls", "api", "x"]), st.none() | st.text(max_size=300)),
)
def test_whatever_is_announced_is_a_plain_name_and_a_url_or_ignored(label, addresses, port, server, hints):
    found = parse_service(info(label, addresses, port, server, **hints))

    if found is not None:
        told = found.discovered()
        assert told.name.isprintable()
        assert 0 < len(told.name) <= 63
        assert told.host.isprintable()
        assert normalised(told.url) in (told.url, told.url.removesuffix(":80"), told.url.removesuffix(":443"))
