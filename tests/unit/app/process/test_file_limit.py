"""Whether the limit of file descriptors carries what is configured, and what to do when it does not."""

import pytest

from nexus.app.process.file_limit import too_few_files
from nexus.config.schema import Config, ServerConfig


@pytest.fixture
def config():
    return Config(server=ServerConfig(max_concurrent_requests=1000))


@pytest.mark.parametrize("limit", [2359, 65536, None])
def test_two_for_each_request_and_some_besides_are_enough(config, limit):
    assert too_few_files(config, limit) == ()


def test_fewer_are_told_of_with_what_to_do(config):
    (warning,) = too_few_files(config, 2358)

    assert warning == (
        "2358 file descriptors are too few for server.max_concurrent_requests = 1000, which needs 2359: raise the limit"
        " (systemd: LimitNOFILE=2359; shell: ulimit -n 2359; Docker: --ulimit nofile=2359) or lower the key"
    )
