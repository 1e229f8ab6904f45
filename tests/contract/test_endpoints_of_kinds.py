"""The table of kinds and the table of endpoints agree."""

from nexus.fleet.kinds import KINDS, PROTOCOL_ENDPOINTS
from nexus.wire.protocols import EVERY

NAMES = {endpoint.name for endpoint in EVERY}


def test_kinds_speak_only_endpoints_that_exist():
    assert {name for kind in KINDS.values() for name in kind.endpoints} <= NAMES


def test_every_endpoint_is_spoken_by_some_kind():
    assert NAMES - {name for kind in KINDS.values() for name in kind.endpoints} == set()


def test_the_endpoints_of_a_protocol_are_those_of_its_wire():
    by_protocol = {}
    for endpoint in EVERY:
        by_protocol.setdefault(endpoint.protocol, set()).add(endpoint.name)

    assert by_protocol == PROTOCOL_ENDPOINTS
