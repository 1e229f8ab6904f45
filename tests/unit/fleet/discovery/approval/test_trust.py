import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus.config.discovery_schema import DiscoveryConfig
from nexus.fleet.discovery.approval.trust import Approval, Trust, decide_trust, is_allowed, may_be_probed
from nexus.fleet.discovery.discoverer import Discovered

DESK = Discovered("desk", "http://192.168.1.5:11434", "ollama", host="desk.local.")
ASK = DiscoveryConfig()


def decided(trust=Trust.APPROVED, found=DESK, kind="ollama"):
    return Approval(source="mdns", name=found.name, url=found.url, kind=kind, trust=trust, decided_unix_s=1)


@pytest.mark.parametrize("kind", [None, "ollama"])
def test_a_server_that_announced_itself_is_pending(kind):
    assert decide_trust(DESK, kind, None, ASK) is Trust.PENDING


def test_an_approval_holds_for_the_same_server():
    assert decide_trust(DESK, "ollama", decided(), ASK) is Trust.APPROVED


@pytest.mark.parametrize(
    ("found", "kind"),
    [
        (DESK, "vllm"),
        (DESK, None),
        (Discovered("desk", "http://192.168.1.6:11434"), "ollama"),
        (Discovered("desk", "http://192.168.1.5:11435"), "ollama"),
        (Discovered("other", DESK.url), "ollama"),
    ],
)
def test_another_server_under_an_approved_name_is_pending(found, kind):
    assert decide_trust(found, kind, decided(), ASK) is Trust.PENDING


@pytest.mark.parametrize("kind", [None, "ollama", "vllm"])
@pytest.mark.parametrize("trust", ["ask", "allow", "all"])
def test_a_rejected_server_stays_rejected_whatever_its_kind(kind, trust):
    config = DiscoveryConfig(trust=trust, allow=("*",))

    assert decide_trust(DESK, kind, decided(Trust.REJECTED), config) is Trust.REJECTED


@pytest.mark.parametrize("entry", ["192.168.1.0/24", "192.168.1.5", "desk", "DESK", "desk.local", "desk.*", "d?sk"])
def test_a_subnet_a_name_and_a_host_can_be_listed(entry):
    config = DiscoveryConfig(trust="allow", allow=(entry,))

    assert decide_trust(DESK, "ollama", None, config) is Trust.APPROVED


@pytest.mark.parametrize(
    "entry",
    ["192.168.1.0/24", "192.168.1.5", "192.168.1.*", "192.168.1.5:11434", "fd00::/8", "fd00:*", "10.*", "fd00::5"],
)
def test_a_name_never_matches_an_address(entry):
    """Any machine can announce any name, also one that reads like what the operator has listed."""
    elsewhere = "http://203.0.113.9:11434"

    assert not is_allowed(Discovered(entry, elsewhere), [entry])
    assert not is_allowed(Discovered("x", elsewhere, host=entry), [entry])
    assert not is_allowed(Discovered("x", "http://10.evil.example:11434"), ["10.*"])


@pytest.mark.parametrize(
    ("entry", "url"),
    [
        ("192.168.1.*", DESK.url),
        ("192.168.1.5:11434", DESK.url),
        ("fd00::/8", "http://[fd00::5]:8000"),
        ("FD00::*", "http://[fd00::5]:8000"),
        ("[fd00::5]:8000", "http://[fd00::5]:8000"),
        ("*.*", "http://gpu.lan:8000"),
    ],
)
def test_an_address_can_be_listed_as_a_pattern_and_with_its_port(entry, url):
    assert is_allowed(Discovered("x", url), [entry])


@pytest.mark.parametrize("trust", ["ask", "allow", "all"])
def test_a_rejected_server_at_another_address_is_pending(trust):
    config = DiscoveryConfig(trust=trust, allow=("*",))
    moved = Discovered("desk", "http://192.168.1.6:11434")

    assert decide_trust(moved, "ollama", decided(Trust.REJECTED), config) is Trust.PENDING


@pytest.mark.parametrize("approval", [None, decided()])
@pytest.mark.parametrize("trust", ["ask", "allow", "all"])
def test_a_server_that_was_rejected_under_another_name_is_pending(trust, approval):
    config = DiscoveryConfig(trust=trust, allow=("*",))

    assert decide_trust(DESK, "ollama", approval, config, is_place_rejected=True) is Trust.PENDING


@pytest.mark.parametrize("entry", ["192.168.2.0/24", "des", "esk", "", "fe80::/10", "192.168.1.0/33"])
def test_a_server_that_no_entry_matches_is_not_listed(entry):
    assert not is_allowed(DESK, [entry])


def test_a_link_local_address_is_in_its_subnet_whatever_its_interface():
    assert is_allowed(Discovered("desk", "http://[fe80::1%25eth0]:11434"), ["fe80::/10"])


def test_the_list_is_ignored_unless_it_is_asked_for():
    assert decide_trust(DESK, "ollama", None, DiscoveryConfig(allow=("*",))) is Trust.PENDING


def test_a_server_that_is_not_recognised_is_never_approved_by_itself():
    assert decide_trust(DESK, None, None, DiscoveryConfig(trust="all")) is Trust.PENDING


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.9.9.9",
        "localhost",
        "a.localhost",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "0.0.0.0",
        "[::]",
        "169.254.169.254",
        "[::ffff:169.254.169.254]",
        "[fd00:ec2::254]",
        "100.100.100.200",
        "224.0.0.251",
        "[ff02::fb]",
    ],
)
def test_an_announcement_cannot_direct_probes_to_this_machine_or_to_a_metadata_address(host):
    assert not may_be_probed(Discovered("x", f"http://{host}:80"))


@pytest.mark.parametrize("host", ["192.168.1.5", "10.0.0.1", "[fe80::1%25eth0]", "[fd00::5]", "8.8.8.8", "gpu.lan"])
def test_a_server_of_the_network_may_be_probed(host):
    assert may_be_probed(Discovered("x", f"http://{host}:80"))


APPROVALS = st.builds(
    Approval,
    name=st.sampled_from(["desk", "other"]),
    url=st.sampled_from([DESK.url, "http://192.168.1.6:11434"]),
    kind=st.sampled_from(["ollama", "vllm"]),
    trust=st.just(Trust.APPROVED),
    decided_unix_s=st.just(1),
)


@given(
    found=st.builds(Discovered, name=st.sampled_from(["desk", "other"]), url=st.just(DESK.url), host=st.text()),
    kind=st.none() | st.sampled_from(["ollama", "vllm"]),
    approval=st.none() | APPROVALS,
    allow=st.lists(st.text().filter(lambda entry: "*" not in entry), max_size=2),
)
def test_nothing_but_a_decision_about_this_server_approves_it(found, kind, approval, allow):
    config = DiscoveryConfig(trust="ask", allow=tuple(allow))

    trust = decide_trust(found, kind, approval, config)

    is_decided = approval is not None and (approval.name, approval.url, approval.kind) == (found.name, found.url, kind)
    assert trust is (Trust.APPROVED if is_decided else Trust.PENDING)
