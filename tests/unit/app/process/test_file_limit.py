"""A limit of file descriptors that is too low is a warning with a remedy."""

import pytest

from nexus.app.process.file_limit import too_few_files
from nexus.config.schema import Config, ServerConfig


@pytest.fixture
def config():
    return Config(server=ServerConfig(max_concurrent_requests=1000))


@pytest.mark.parametrize("limit", [2359, 65536, None])
def test_two_descriptors_per_request_and_some_more_are_enough(config, limit):
    assert too_few_files(config, limit) == ()


def test_a_limit_that_is_too_low_is_a_warning_with_a_remedy(config):
    (warning,) = too_few_files(config, 2358)

    assert warning == (
        "2358 file descriptors are too few for server.max_concurrent_requests = 1000, which needs 2359: raise the limit"
        " (systemd: LimitNOFILE=2359; shell: ulimit -n 2359; Docker: --ulimit nofile=2359) or lower the key"
    )
