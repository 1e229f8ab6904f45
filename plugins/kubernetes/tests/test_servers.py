"""Which servers follow from slices: decisions, without any connection."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus_kubernetes.config import ServiceConfig
from nexus_kubernetes.servers import Reading, Server, discovered, is_last_resort, is_ready, read, with_vanished
from nexus_kubernetes.slices import Conditions, Endpoint, EndpointSlice, Metadata, Port, TargetRef

VLLM = ServiceConfig(service="vllm", namespace="llm")
HTTP = (Port(8000, "http", "TCP"),)
NOT_READY = Conditions(ready=False)
DRAINING = Conditions(ready=False, serving=True, terminating=True)
GONE = Conditions(ready=False, serving=False, terminating=True)


def endpoint(address, pod="", conditions=None, uid=None):
    target = TargetRef(pod, f"uid-{pod}" if uid is None else uid) if pod else None
    return Endpoint((address,), conditions, target)


def slice_(*endpoints, ports=HTTP, address_type="IPv4", name="vllm-x"):
    return EndpointSlice(Metadata(name), address_type, endpoints, ports)


def found(*slices, service=VLLM):
    return {s.name: s.url for s in discovered([(service, "llm", read(service, slices))])}


class TestReadiness:
    @pytest.mark.parametrize("ready", [True, None])
    def test_ready_and_unknown_endpoints_are_found(self, ready):
        assert found(slice_(endpoint("10.0.0.1", "a", Conditions(ready=ready)))) == {"a": "http://10.0.0.1:8000"}

    def test_an_endpoint_without_conditions_is_found(self):
        assert found(slice_(endpoint("10.0.0.1", "a"))) == {"a": "http://10.0.0.1:8000"}

    def test_an_endpoint_that_is_not_ready_is_not_found(self):
        reading = read(VLLM, [slice_(endpoint("10.0.0.1", "a", NOT_READY))])

        assert (reading.servers, reading.problem) == ((), "none of its endpoints is ready")

    def test_a_terminating_endpoint_is_left_out_while_another_is_ready(self):
        assert set(found(slice_(endpoint("10.0.0.1", "a", DRAINING), endpoint("10.0.0.2", "b")))) == {"b"}

    def test_a_terminating_endpoint_that_serves_is_the_last_resort(self):
        slices = (
            slice_(endpoint("10.0.0.1", "a", DRAINING)),
            slice_(endpoint("10.0.0.2", "b", NOT_READY), endpoint("10.0.0.3", "c", GONE), name="vllm-y"),
        )

        assert set(found(*slices)) == {"a"}

    def test_a_service_that_publishes_unready_endpoints_still_drains(self):
        # With publishNotReadyAddresses, an endpoint is always ready.
        always = Conditions(ready=True, serving=True, terminating=True)

        assert set(found(slice_(endpoint("10.0.0.1", "a", always), endpoint("10.0.0.2", "b")))) == {"b"}

    @given(st.builds(Conditions, *3 * [st.sampled_from([None, True, False])]))
    def test_no_endpoint_is_both_ready_and_a_last_resort(self, conditions):
        assert not (is_ready(conditions) and is_last_resort(conditions))


class TestVanishing:
    BEFORE = read(VLLM, [slice_(endpoint("10.0.0.1", "a"), endpoint("10.0.0.2", "b"))])

    def after(self, *slices, before=BEFORE, now=100.0):
        reading, again_at = with_vanished(read(VLLM, slices), before, now=now, hold_s=2.0)
        return [server.pod for server in reading.servers], again_at, reading

    def test_a_server_that_left_all_slices_stays_for_a_while(self):
        names, again_at, held = self.after(slice_(endpoint("10.0.0.2", "b")))
        later, never, _ = self.after(slice_(endpoint("10.0.0.2", "b")), before=held, now=102.0)

        assert (names, again_at) == (["a", "b"], 102.0)
        assert (later, never) == (["b"], None)

    @pytest.mark.parametrize("conditions", [NOT_READY, DRAINING, GONE])
    def test_an_unready_or_terminating_server_leaves_at_once(self, conditions):
        names, again_at, _ = self.after(slice_(endpoint("10.0.0.1", "a", conditions), endpoint("10.0.0.2", "b")))

        assert (names, again_at) == (["b"], None)

    def test_a_pod_that_moved_is_not_kept_at_its_old_address(self):
        names, again_at, reading = self.after(slice_(endpoint("10.0.0.9", "a", uid="new"), endpoint("10.0.0.2", "b")))

        assert (names, again_at) == (["a", "b"], None)
        assert reading.servers[0].host == "10.0.0.9"

    def test_a_pod_whose_address_was_reused_is_gone(self):
        names, again_at, _ = self.after(slice_(endpoint("10.0.0.1", "new"), endpoint("10.0.0.2", "b")))

        assert (names, again_at) == (["b", "new"], None)

    def test_a_service_without_slices_is_reported_when_its_servers_are_gone(self):
        names, _, held = self.after()
        later, _, reading = self.after(before=held, now=103.0)

        assert (names, held.problem) == (["a", "b"], "")
        assert later == []
        assert "no EndpointSlice" in reading.problem


class TestPorts:
    def test_the_only_port_needs_no_name(self):
        assert found(slice_(endpoint("10.0.0.1", "a"), ports=(Port(9, None, "TCP"),))) == {"a": "http://10.0.0.1:9"}

    def test_other_protocols_do_not_count(self):
        ports = (*HTTP, Port(53, "dns", "UDP"), Port(54, "sctp", "SCTP"))

        assert found(slice_(endpoint("10.0.0.1", "a"), ports=ports)) == {"a": "http://10.0.0.1:8000"}

    def test_of_several_ports_one_must_be_chosen(self):
        reading = read(VLLM, [slice_(endpoint("10.0.0.1", "a"), ports=(*HTTP, Port(9000, "metrics")))])

        assert reading.servers == ()
        assert reading.problem == "`port` must say which port: vllm-x has http (8000), metrics (9000)"

    @pytest.mark.parametrize("port", ["metrics", 9000])
    def test_by_name_or_number(self, port):
        service = msgspec.structs.replace(VLLM, port=port)
        slices = slice_(endpoint("10.0.0.1", "a"), ports=(*HTTP, Port(9000, "metrics")))

        assert found(slices, service=service) == {"a": "http://10.0.0.1:9000"}

    def test_each_slice_may_have_another_number_for_a_name(self):
        service = msgspec.structs.replace(VLLM, port="http")
        slices = (
            slice_(endpoint("10.0.0.1", "a")),
            slice_(endpoint("10.0.0.2", "b"), ports=(Port(9, "http"),), name="y"),
        )

        assert found(*slices, service=service) == {"a": "http://10.0.0.1:8000", "b": "http://10.0.0.2:9"}

    @pytest.mark.parametrize("port", ["grpc", 9000])
    def test_one_that_is_not_there_is_a_problem_that_names_the_others(self, port):
        reading = read(msgspec.structs.replace(VLLM, port=port), [slice_(endpoint("10.0.0.1", "a"))])

        assert reading == Reading(problem=f"vllm-x has no port {port!r} for TCP: it has http (8000)")

    @pytest.mark.parametrize("ports", [None, (), (Port(None, None, None),)])
    def test_a_service_without_ports_is_reached_by_number(self, ports):
        slices = slice_(endpoint("10.0.0.1", "a"), ports=ports)

        assert found(slices, service=msgspec.structs.replace(VLLM, port=8080)) == {"a": "http://10.0.0.1:8080"}
        assert found(slices) == {}

    def test_a_slice_without_endpoints_has_no_wrong_port(self):
        slices = slice_(ports=None, name="empty"), slice_(endpoint("10.0.0.1", "a"))

        reading = read(VLLM, slices)

        assert (reading.servers, reading.problem) == ((Server("10.0.0.1", 8000, "a"),), "")


class TestAddresses:
    def test_a_pod_in_two_families_is_one_server(self):
        four = slice_(endpoint("10.0.0.1", "a"), name="z-four")
        six = slice_(endpoint("fd00::1", "a"), address_type="IPv6", name="a-six")

        assert found(six, four) == {"a": "http://10.0.0.1:8000"}

    def test_a_pod_in_one_family_is_reached_there(self):
        four = slice_(endpoint("10.0.0.1", "a"))
        six = slice_(endpoint("fd00::0002", "b"), address_type="IPv6", name="six")

        assert found(four, six) == {"a": "http://10.0.0.1:8000", "b": "http://[fd00::2]:8000"}

    def test_a_name_is_an_address_too(self):
        slices = slice_(endpoint("gpu.example"), address_type="FQDN")

        assert found(slices) == {"gpu.example:8000": "http://gpu.example:8000"}

    def test_of_several_addresses_of_one_server_the_first_counts(self):
        both = Endpoint(("10.0.0.1", "10.0.0.2"))

        assert found(slice_(both)) == {"10.0.0.1:8000": "http://10.0.0.1:8000"}

    @pytest.mark.parametrize("address", ["", "10.0.0", "10.0.0.1:80", "10.0.0.1/x", "fd00::1", "a b", "u@h"])
    @pytest.mark.parametrize("address_type", ["IPv4", "IPv6", "FQDN", "Carrier"])
    def test_an_invalid_address_is_skipped(self, address, address_type):
        urls = found(slice_(endpoint(address), address_type=address_type)).values()

        assert set(urls) <= {"http://[fd00::1]:8000", "http://10.0.0:8000"}

    def test_an_endpoint_that_moves_from_slice_to_slice_is_one_server(self):
        slices = slice_(endpoint("10.0.0.1", "a"), name="old"), slice_(endpoint("10.0.0.1", "a"), name="new")

        assert found(*slices) == {"a": "http://10.0.0.1:8000"}

    def test_two_servers_without_pods_at_one_address_are_two(self):
        slices = slice_(endpoint("10.0.0.1")), slice_(endpoint("10.0.0.1"), ports=(Port(9, "http"),), name="y")

        assert set(found(*slices)) == {"10.0.0.1:8000", "10.0.0.1:9"}


class TestNames:
    def read(self, *slices, service=VLLM):
        return service, service.namespace, read(service, slices)

    def test_url_and_kind_are_what_the_service_says(self):
        service = msgspec.structs.replace(VLLM, tls=True, path="/api/", type="vllm")

        (server,) = discovered([self.read(slice_(endpoint("10.0.0.1", "a")), service=service)])

        assert (server.name, server.url, server.kind) == ("a", "https://10.0.0.1:8000/api", "vllm")

    def test_the_same_pod_in_two_namespaces_has_two_names(self):
        other = msgspec.structs.replace(VLLM, namespace="test")
        listed = (
            self.read(slice_(endpoint("10.0.0.1", "vllm-0"))),
            self.read(slice_(endpoint("10.0.0.2", "vllm-0")), service=other),
        )

        assert {s.name for s in discovered(listed)} == {"vllm-0.llm", "vllm-0.test"}
        assert {s.name for s in discovered([listed[0], (other, "test", Reading())])} == {"vllm-0.llm"}

    def test_one_pod_behind_two_ports_has_two_names(self):
        second = msgspec.structs.replace(VLLM, port=9000)
        ports = (*HTTP, Port(9000, "more"))
        first = msgspec.structs.replace(VLLM, port="http")
        slices = slice_(endpoint("10.0.0.1", "a"), ports=ports)

        listed = [self.read(slices, service=service) for service in (first, second)]

        assert {s.name: s.url for s in discovered(listed)} == {
            "a": "http://10.0.0.1:8000",
            "a:9000": "http://10.0.0.1:9000",
        }

    def test_one_server_behind_two_services_is_one(self):
        other = msgspec.structs.replace(VLLM, service="all")
        slices = slice_(endpoint("10.0.0.1", "a"))

        assert len(discovered([self.read(slices), self.read(slices, service=other)])) == 1


def test_a_missing_service_is_reported_as_missing():
    assert "see its name and namespace" in read(VLLM, []).problem


addresses = st.integers(1, 6).map("10.0.0.{}".format)
conditions = st.one_of(st.none(), st.builds(Conditions, *3 * [st.sampled_from([None, True, False])]))
pods = st.sampled_from(["", "a", "b", "c"])
endpoints = st.lists(st.builds(endpoint, addresses, pods, conditions), max_size=5)
ports = st.sampled_from([HTTP, (Port(9000, "http"),), None, (*HTTP, Port(1, "grpc"))])
slices = st.lists(
    st.builds(
        lambda name, held, ports: slice_(*held, name=name, ports=ports),
        st.sampled_from(["v", "w", "x", "y", "z"]),
        endpoints,
        ports,
    ),
    max_size=4,
    unique_by=lambda each: each.metadata.name,
)


@given(slices, st.randoms())
def test_the_order_of_slices_does_not_matter(listed, chance):
    shuffled = list(listed)
    chance.shuffle(shuffled)

    assert read(VLLM, shuffled) == read(VLLM, listed)


@given(slices, st.sampled_from([None, "http", "grpc", 8000]))
def test_every_server_has_a_name_and_a_place_of_its_own(listed, port):
    service = msgspec.structs.replace(VLLM, port=port)

    servers = discovered([(service, "llm", read(service, listed))])

    assert len({s.name for s in servers}) == len({s.url for s in servers}) == len(servers)


@given(slices)
def test_only_ready_endpoints_are_found_if_any_is_ready(listed):
    with_port = [each for each in listed if each.ports and len(each.ports) == 1]
    held = [e for each in with_port for e in each.endpoints]
    ready = {f"{e.addresses[0]}" for e in held if is_ready(e.conditions)}
    last = {f"{e.addresses[0]}" for e in held if is_last_resort(e.conditions)}

    servers = {server.host for server in read(VLLM, listed).servers}

    assert servers <= (ready or last)
    assert bool(servers) == bool(ready or last)


@given(slices)
def test_no_server_without_a_reason_and_no_reason_without_need(listed):
    reading = read(VLLM, listed)

    assert reading.servers or reading.problem
