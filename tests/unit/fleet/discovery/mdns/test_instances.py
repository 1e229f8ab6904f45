"""Which instances of services are known, and under which names."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus.fleet.discovery.mdns.instances import MAX_INSTANCES, MAX_PER_HOST, Instances
from nexus.fleet.discovery.mdns.service import Service

DESK = "desk._ollama._tcp.local."
DESK_URL = "http://192.168.1.5:11434"


def found(name="desk", host="desk.local", port=11434, addresses=("192.168.1.5",), **hints):
    return Service(name=name, host=host, port=port, addresses=tuple(addresses), **hints)


def answers_at(instances, *addresses, now=1.0):
    """Let those instances answer that have one of *addresses*, and all others not."""
    for instance in instances:
        reached = [address for address in instances.addresses_of(instance) if address in addresses]
        instance.is_answering, instance.checked_at = bool(reached), now
        if reached:
            instance.answered_at = now
            instance.found = instance.found.preferring(reached[0])


def told(instances):
    return {each.name: each.url for each in instances.answering()}


@pytest.fixture
def approving():
    """Give instances of which the servers at some URLs are approved."""

    def approving(**urls):
        return Instances(urls.get)

    return approving


def test_only_instances_that_answer_are_reported():
    instances = Instances()
    instances.add(DESK, found())
    instances.add("gpu._vllm._tcp.local.", found("gpu", "gpu.local", 8000, ["192.168.1.6"]))

    answers_at(instances, "192.168.1.5")

    assert told(instances) == {"desk": DESK_URL}


def test_servers_of_one_name_have_different_names_and_keep_them():
    instances = Instances()
    hosts = {"a.local": "192.168.1.1", "b.local": "192.168.1.2", "c.local": "192.168.1.3"}
    for host, address in hosts.items():
        instances.add(DESK, found(host=host, port=1, addresses=[address]))
    instances.add(DESK.replace("ollama", "llm"), found(host="c.local", port=1, addresses=["192.168.1.4"]))

    answers_at(instances, *hosts.values(), "192.168.1.4")
    all_names = list(told(instances))
    answers_at(instances, "192.168.1.2")
    second = list(told(instances))

    assert (all_names, second) == (["desk", "desk-1", "desk-c.local", "desk-2"], ["desk-1"])


@pytest.mark.parametrize("is_approved_first", [True, False])
def test_an_approved_server_keeps_its_name(approving, is_approved_first):
    instances = approving(desk=DESK_URL)
    real, rogue = found(), found(host="rogue.local", addresses=["192.168.1.1"])
    for each in (real, rogue) if is_approved_first else (rogue, real):
        instances.add(DESK, each)

    answers_at(instances, "192.168.1.5", "192.168.1.1")

    assert told(instances) == {"desk": DESK_URL, "desk-11434": "http://192.168.1.1:11434"}


def test_the_name_of_an_approved_server_that_is_down_stays_reserved(approving):
    instances = approving(desk=DESK_URL)
    instances.add(DESK, found())
    instances.add(DESK, found(host="rogue.local", addresses=["192.168.1.1"]))

    answers_at(instances, "192.168.1.1")

    assert told(instances) == {"desk-11434": "http://192.168.1.1:11434"}


@pytest.mark.parametrize("label", ["desk-2", "desk #2", "desk (2)"])
def test_an_approved_server_keeps_its_name_when_another_has_taken_its_label(approving, label):
    instances = approving(desk=DESK_URL)
    instances.add(DESK, found(host="rogue.local", addresses=["192.168.1.1"]))
    instances.add(f"{label}._ollama._tcp.local.", found(label))

    answers_at(instances, "192.168.1.5", "192.168.1.1")

    assert told(instances) == {"desk": DESK_URL, "desk-11434": "http://192.168.1.1:11434"}


def test_a_server_that_is_announced_twice_is_reported_once():
    instances = Instances()
    instances.add(DESK, found())
    instances.add("desk._llm._tcp.local.", found())

    answers_at(instances, "192.168.1.5")

    assert told(instances) == {"desk": DESK_URL}


def test_an_announcement_does_not_replace_an_address_that_answers():
    instances = Instances()
    instances.add(DESK, found())
    answers_at(instances, "192.168.1.5", "192.168.1.1")

    instances.add(DESK, found(addresses=["192.168.1.1"]))
    answers_at(instances, "192.168.1.5", "192.168.1.1")

    assert told(instances) == {"desk": DESK_URL}


def test_a_server_that_has_moved_is_reported_at_its_new_address():
    instances = Instances()
    instances.add(DESK, found())
    answers_at(instances, "192.168.1.5")

    instances.add(DESK, found(addresses=["192.168.1.7"]))
    answers_at(instances, "192.168.1.7")

    assert told(instances) == {"desk": "http://192.168.1.7:11434"}


def test_an_approved_address_comes_back_however_often_others_are_announced(approving):
    instances = approving(desk=DESK_URL)
    instances.add(DESK, found())
    for number in range(100):
        instances.add(DESK, found(addresses=[f"192.168.2.{number}"]))
        answers_at(instances, f"192.168.2.{number}")

    answers_at(instances, "192.168.1.5", "192.168.2.99")

    assert told(instances) == {"desk": DESK_URL}
    assert max(len(instance.found.addresses) for instance in instances) <= 3


def test_a_silent_instance_is_displaced_when_there_is_no_room():
    instances = Instances()
    for number in range(MAX_INSTANCES):
        instances.add(f"{number}.", found(host=f"{number}.local", addresses=[f"10.0.0.{number}"]))
    is_untried_displaced = instances.add("new.", found(host="new.local"))
    answers_at(instances, "10.0.0.0")

    assert not is_untried_displaced
    assert instances.add("new.", found(host="new.local"))
    assert (len([*instances]), instances.knows("0."), instances.knows("1.")) == (MAX_INSTANCES, True, False)


@pytest.mark.parametrize(("later_s", "makes_way"), [(59, False), (61, True)])
def test_an_instance_that_has_answered_keeps_its_place_for_a_while(later_s, makes_way):
    instances = Instances()
    addresses = [f"10.0.0.{number}" for number in range(MAX_INSTANCES)]
    for address in addresses:
        instances.add(f"{address}.", found(address, f"{address}.local", addresses=[address]))
    answers_at(instances, *addresses, now=100.0)
    answers_at(instances, *addresses[1:], now=100.0 + later_s)

    assert instances.add("new.", found(host="new.local")) == makes_way
    assert instances.knows("10.0.0.0.") != makes_way


def test_an_approved_server_finds_room_among_servers_that_answer(approving):
    instances = approving(desk=DESK_URL)
    addresses = [f"10.0.0.{number}" for number in range(MAX_INSTANCES)]
    for address in addresses:
        instances.add(f"{address}.", found(address, f"{address}.local", addresses=[address]))
    answers_at(instances, *addresses)

    assert instances.add(DESK, found())
    assert not instances.add("other.", found("other", "other.local"))
    answers_at(instances, *addresses, "192.168.1.5")
    assert (len([*instances]), told(instances)["desk"]) == (MAX_INSTANCES, DESK_URL)


@pytest.mark.parametrize(
    ("is_approved", "is_up", "stays"), [(False, False, 0), (False, True, 0), (True, True, 0), (True, False, 1)]
)
def test_a_withdrawn_service_is_dropped_unless_its_machine_is_down(approving, is_approved, is_up, stays):
    instances = approving(**({"desk": DESK_URL} if is_approved else {}))
    instances.add(DESK, found())
    answers_at(instances, *(["192.168.1.5"] if is_up else []))

    instances.withdraw(DESK.upper())

    assert len([*instances]) == stays


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from(["desk.local", "x.local", "y.local"]), st.integers(1, 60)),
        max_size=200,
    ),
    st.data(),
)
def test_an_approved_server_stays_whatever_is_announced(announcements, data):
    instances = Instances({"desk": DESK_URL}.get)
    instances.add(DESK, found())
    for label, host, port in announcements:
        instances.add(f"{label}._ollama._tcp.local.", found(label, host, port, [f"10.0.0.{port}"]))
        if data.draw(st.booleans()):
            answers_at(instances, "192.168.1.5")

    answers_at(instances, "192.168.1.5")

    assert told(instances) == {"desk": DESK_URL}
    hosts = [instance.found.host for instance in instances]
    assert max(map(hosts.count, hosts)) <= MAX_PER_HOST


@pytest.mark.parametrize(
    ("hints", "url"), [({"is_tls": True}, "https://192.168.1.5:11434"), ({"path": "/x"}, f"{DESK_URL}/x")]
)
def test_an_announcement_of_another_url_does_not_displace_an_approved_server(approving, hints, url):
    instances = approving(desk=DESK_URL)
    for hint in ({}, hints, {}, {"path": "/y"}, hints):
        instances.add(DESK, found(**hint))
        answers_at(instances, "192.168.1.5")
        assert told(instances)["desk"] == DESK_URL

    assert told(instances) == {"desk": DESK_URL, "desk-11434": url}

    instances.withdraw(DESK)

    assert told(instances) == {}


def test_a_server_that_is_not_approved_is_where_it_announced_itself_last():
    instances = Instances()
    for hints in ({}, {"is_tls": True}, {"path": "/llm"}):
        instances.add(DESK, found(**hints))
        answers_at(instances, "192.168.1.5")

    assert told(instances) == {"desk": f"{DESK_URL}/llm"}
    assert len([*instances]) == 1


def test_an_announcement_that_is_repeated_changes_nothing():
    instances = Instances()
    services = (DESK, DESK.replace("ollama", "llm"))
    for service in (*services, *services[:1]):
        instances.add(service, found())
        answers_at(instances, "192.168.1.5")

    assert [instance.service for instance in instances] == [*services]
