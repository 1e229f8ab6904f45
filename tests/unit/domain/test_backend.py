"""A backend that was probed again is like it was, unless the probe has found something new."""

import pytest
from msgspec.structs import replace

from nexus.domain.backend import Status
from nexus.domain.backend_load import BackendLoad
from nexus.testing.builders import make_backend

BACKEND = make_backend("gpu-1")


def test_it_is_like_itself_after_a_probe_that_found_nothing_new():
    assert BACKEND.is_like(BACKEND)
    assert BACKEND.is_like(replace(BACKEND, last_check_at=1_777_777_777.0))


@pytest.mark.parametrize(
    "found", [{"status": Status.UNHEALTHY}, {"priority": 7}, {"models": {}}, {"load": BackendLoad()}]
)
def test_it_is_not_like_one_of_which_something_else_is_known(found):
    assert not BACKEND.is_like(replace(BACKEND, last_check_at=1_777_777_777.0, **found))
