"""A row of the fleet arrives in another process as it was sent, whatever its kind and its state."""

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given

from nexus.domain.backend import Backend, Breaker
from nexus.domain.backend_load import BackendLoad
from nexus.domain.shared_load import Elsewhere
from nexus.fleet.kinds import KINDS, UNDETECTED
from nexus.fleet.sharing.rows import UnknownKind, decode_row, encode_row
from nexus.testing.builders import make_backend
from nexus.testing.strategies import backends

NAMES = st.text(max_size=8)
COUNTS = st.integers(0, 1000)


def fields(row):
    return {field.name: getattr(row, field.name) for field in msgspec.structs.fields(Backend)} | {"load": None}


@pytest.mark.parametrize("kind", [*KINDS.values(), UNDETECTED], ids=lambda kind: kind.name)
@given(backends(), st.frozensets(st.tuples(NAMES, NAMES), max_size=3), st.dictionaries(NAMES, st.sampled_from(Breaker)))
def test_a_row_is_the_same_after_it_was_sent(kind, row, unsupported, breakers):
    row = msgspec.structs.replace(row, kind=kind, unsupported=unsupported, model_breakers=breakers)

    received = Backend(load=BackendLoad(), **decode_row(encode_row(row), KINDS))

    assert fields(received) == fields(msgspec.structs.replace(row, spellings={}))


def test_a_row_of_an_unknown_kind_is_refused():
    with pytest.raises(UnknownKind, match="generic"):
        decode_row(encode_row(make_backend()), {})


ELSEWHERE = st.builds(
    Elsewhere,
    COUNTS,
    COUNTS,
    COUNTS,
    st.dictionaries(NAMES, COUNTS, max_size=3),
    st.dictionaries(NAMES, st.floats(0, 1e6), max_size=3),
    st.frozensets(NAMES, max_size=2),
)


@given(ELSEWHERE, ELSEWHERE)
def test_requests_elsewhere_add_up_in_any_order(one, two):
    assert one + two == two + one
    assert (one + two).in_flight == one.in_flight + two.in_flight
